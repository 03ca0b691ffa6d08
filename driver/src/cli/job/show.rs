//! What a Job does, shown: as it is on stderr, as a view that moves on a terminal, or as JSON on stdout.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Instant;

use buildfleet_proto::fleet::{Job, JobEnd, JobNews};
use serde::Serialize;

use super::args::ProgressKind;
use super::ls::JobView;
use super::screen::{Screen, Size};
use super::steps::{Line, Steps};
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::lines::Held;
use crate::cli::output::{Format, json_line, print, say};
use crate::cli::progress::Style;
use crate::cli::table::printable;
use crate::cli::units;

/// How much of a quiet build's last words is told when it fails.
const LAST_WORDS: usize = 40;

/// How often the upload is told where lines stay, in bytes.
const TOLD: u64 = 64 * 1024 * 1024;

/// Where a Job's events go.
pub(super) struct Show {
    kind: Kind,
    began: Instant,
    /// Of the upload, that were told.
    told: u64,
}

enum Kind {
    /// Only what is wrong; the last lines that are about no step are kept for that.
    Quiet {
        steps: Steps,
        last: VecDeque<String>,
    },
    Lines,
    Screen(Screen),
    Json {
        held: Held,
    },
    Nothing,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Event<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobView>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    trouble: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

impl Show {
    pub(super) fn new(context: &Context, progress: ProgressKind) -> Self {
        let colour = !context.settings.no_color();
        let kind = match (context.format, progress, context.progress) {
            (Format::Json, ..) => Kind::Json { held: Held::default() },
            (_, _, Style::Quiet) => Kind::Quiet { steps: Steps::default(), last: VecDeque::new() },
            (_, ProgressKind::Plain, _) | (_, ProgressKind::Auto, Style::Lines) => Kind::Lines,
            (_, ProgressKind::Tty, _) | (_, ProgressKind::Auto, Style::Bars { .. }) => {
                Kind::Screen(Screen::new(colour))
            }
        };
        Self { kind, began: Instant::now(), told: 0 }
    }

    /// For who waits only for the end.
    pub(super) fn nothing() -> Self {
        Self { kind: Kind::Nothing, began: Instant::now(), told: 0 }
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(super) fn job(&mut self, job: &Job) -> Result<(), Failure> {
        let line = format!("info: job {} in namespace {}", job.name, job.namespace);
        match &mut self.kind {
            Kind::Json { .. } => {
                print(json_line(&Event { event: "job", job: Some(JobView::from(job.clone())), ..Event::default() })?)?;
            }
            Kind::Quiet { .. } | Kind::Nothing => {}
            Kind::Lines => say(&line),
            Kind::Screen(screen) => screen.say(&line),
        }
        Ok(())
    }

    pub(super) fn news(&mut self, news: &JobNews) -> Result<(), Failure> {
        let now = self.now();
        let text = match news.pod.as_str() {
            "" => printable(news.text.trim()),
            pod => format!("{}: {}", printable(pod), printable(news.text.trim())),
        };
        match &mut self.kind {
            Kind::Json { .. } => {
                let JobNews { pod, text, trouble } = news;
                print(json_line(&Event {
                    event: "news",
                    pod,
                    text: Some(text),
                    trouble: *trouble,
                    ..Event::default()
                })?)?;
            }
            Kind::Nothing => {}
            Kind::Quiet { .. } if !news.trouble => {}
            Kind::Quiet { .. } | Kind::Lines => {
                say(&format!("{}: {text}", if news.trouble { "warning" } else { "info" }));
            }
            Kind::Screen(screen) => {
                if news.trouble {
                    screen.say(&format!("warning: {text}"));
                }
                screen.news(&text, now);
            }
        }
        Ok(())
    }

    /// Bytes of the context that have arrived, and how many there are, when all are packed.
    pub(super) fn uploaded(&mut self, bytes: u64, all: Option<u64>) -> Result<(), Failure> {
        let now = self.now();
        let size = |bytes: u64| units::size(i64::try_from(bytes).unwrap_or(i64::MAX));
        let whole = all == Some(bytes);
        let text = match all {
            Some(all) if !whole => format!("sending the context: {} of {}", size(bytes), size(all)),
            _ => format!("sending the context: {}", size(bytes)),
        };
        match &mut self.kind {
            Kind::Json { .. } => {
                print(json_line(&Event { event: "uploaded", bytes: Some(bytes), ..Event::default() })?)?;
            }
            Kind::Quiet { .. } | Kind::Nothing => {}
            Kind::Lines => {
                if bytes >= self.told + TOLD || (whole && bytes > self.told) {
                    self.told = bytes;
                    say(&format!("info: {text}"));
                }
            }
            Kind::Screen(screen) => screen.news(&text, now),
        }
        Ok(())
    }

    pub(super) fn output(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let now = self.now();
        match &mut self.kind {
            Kind::Json { held } => print(json_output(&held.take(bytes))?)?,
            Kind::Quiet { steps, last } => {
                for line in steps.take(bytes, now) {
                    if let Line::Other(line) = line {
                        if last.len() == LAST_WORDS {
                            last.pop_front();
                        }
                        last.push_back(line);
                    }
                }
            }
            Kind::Nothing => {}
            // There is nobody to tell when stderr is closed.
            Kind::Lines => drop(std::io::stderr().lock().write_all(bytes)),
            Kind::Screen(screen) => screen.output(bytes, now, size().width),
        }
        Ok(())
    }

    /// Time has passed.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        if let Kind::Screen(screen) = &mut self.kind {
            write(&screen.frame(now, size()));
        }
    }

    /// A line for the user that stays.
    pub(super) fn say(&mut self, line: &str) {
        match &mut self.kind {
            Kind::Screen(screen) => screen.say(line),
            Kind::Nothing => {}
            Kind::Quiet { .. } | Kind::Lines | Kind::Json { .. } => say(line),
        }
    }

    /// Nothing comes any more; what is said after it stands below.
    pub(super) fn finish(&mut self, end: Option<&JobEnd>) -> Result<(), Failure> {
        let now = self.now();
        match &mut self.kind {
            Kind::Screen(screen) => write(&screen.finish(now, size().width)),
            Kind::Json { held } => {
                print(json_output(held.rest().as_slice())?)?;
                if let Some(end) = end {
                    let JobEnd { exit_code, reason, detail, .. } = end;
                    let state = super::ls::state(end.state());
                    print(json_line(&Event {
                        event: "end",
                        state,
                        exit_code: *exit_code,
                        reason,
                        detail,
                        ..Event::default()
                    })?)?;
                }
            }
            Kind::Quiet { steps, last } => {
                last.extend(
                    steps.rest(now).and_then(|line| if let Line::Other(line) = line { Some(line) } else { None }),
                );
                let failed = end.is_some_and(|end| end.exit_code.is_some_and(|code| code != 0));
                last.iter().filter(|line| failed && !line.is_empty()).for_each(|line| say(line));
            }
            Kind::Lines | Kind::Nothing => {}
        }
        Ok(())
    }
}

/// How a Job ended, for who waited.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EndView<'a> {
    name: &'a str,
    status: &'static str,
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

impl<'a> EndView<'a> {
    pub(super) fn of(name: &'a str, end: &'a JobEnd) -> Self {
        let JobEnd { exit_code, reason, detail, .. } = end;
        Self { name, status: super::ls::state(end.state()), exit_code: *exit_code, reason, detail }
    }
}

/// One document per line of the build.
fn json_output(lines: &[String]) -> Result<String, Failure> {
    lines.iter().map(|line| json_line(&Event { event: "output", text: Some(line), ..Event::default() })).collect()
}

fn size() -> Size {
    let known = terminal_size::terminal_size_of(std::io::stderr());
    known.map_or(Size { width: 80, height: 24 }, |(width, height)| Size {
        width: usize::from(width.0),
        height: usize::from(height.0),
    })
}

fn write(frame: &str) {
    let mut stderr = std::io::stderr().lock();
    // There is nobody to tell when stderr is closed.
    let _ = stderr.write_all(frame.as_bytes()).and_then(|()| stderr.flush());
}
