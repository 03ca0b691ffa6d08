//! The story of a wait on stderr: one moving line per node on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use buildfleet_proto::fleet::Progress;
use buildfleet_proto::fleet::progress::Level;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;

use super::failure::Failure;
use super::output::say;
use super::table::printable;
use crate::settings::{Environment, Settings};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Only warnings.
    Quiet,
    Lines,
    Bars {
        colour: bool,
    },
}

impl Style {
    pub(super) fn of_stderr(quiet: bool, settings: &Settings, environment: &impl Environment) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() && can_move(environment) {
            Self::Bars { colour: !settings.no_color() }
        } else {
            Self::Lines
        }
    }
}

/// Whether a terminal's lines can be written over.
pub(super) fn can_move(environment: &impl Environment) -> bool {
    environment.var("TERM").is_some_and(|term| term != "dumb")
}

/// Shows a stream of progress until it ends.
///
/// Not bounded here: the daemon bounds each wait by the node's own time limit and ends the stream, and an end of the
/// daemon ends it as well.
pub(super) async fn follow(mut stream: Streaming<Progress>, style: Style) -> Result<(), Failure> {
    let mut display = Display::new(style);
    loop {
        match stream.message().await {
            Ok(Some(event)) => display.show(&event),
            Ok(None) => {
                display.finish();
                return Ok(());
            }
            Err(status) => return Err(Failure::refused(status)),
        }
    }
}

/// Waits for the end of what was asked for, and shows warnings alone.
pub(super) async fn quietly(asked: Result<Streaming<Progress>, Failure>) -> Result<(), Failure> {
    follow(asked?, Style::Quiet).await
}

/// As [`follow`], ended at once by Ctrl-C.
pub(super) async fn follow_or_interrupt(stream: Streaming<Progress>, style: Style) -> Result<(), Failure> {
    let mut interrupts = interrupts()?;
    tokio::select! {
        result = follow(stream, style) => result,
        _ = interrupts.recv() => Err(Failure::interrupted()),
    }
}

/// Ctrl-C, from before the first line is shown: who sees it may press the keys.
pub(super) fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt()).map_err(|error| Failure::other(format!("failed to wait for signals: {error}")))
}

/// `[kube0] kube0-7d4b9: pulling image moby/buildkit`
fn line(event: &Progress) -> String {
    let mark = if event.level() == Level::Warning { "warning: " } else { "" };
    format!("{mark}[{}] {}", printable(&event.node), message(event))
}

/// The event without its node.
fn message(event: &Progress) -> String {
    let mut text = if event.pod.is_empty() { String::new() } else { format!("{}: ", printable(&event.pod)) };
    let said = printable(event.text.trim());
    match event.level() {
        Level::Ready if said.is_empty() => text.push_str("ready"),
        Level::Ready | Level::Info | Level::Warning => text.push_str(&said),
    }
    if event.level() == Level::Ready && event.wanted > 0 {
        text.push_str(&format!(" ({}/{})", event.ready, event.wanted));
    }
    text
}

enum Display {
    Quiet,
    Lines,
    Bars { all: MultiProgress, nodes: BTreeMap<String, Bar>, styles: Box<Styles> },
}

struct Styles {
    running: ProgressStyle,
    done: ProgressStyle,
    ended: ProgressStyle,
}

/// Of a line that moves, of one that is done, and of one that came to another end.
fn templates(colour: bool) -> [&'static str; 3] {
    if colour {
        [
            "{spinner:.cyan} [{prefix}] {elapsed:>3} {wide_msg}",
            "✓ [{prefix:.green}] {elapsed:>3} {wide_msg}",
            "✗ [{prefix:.red}] {elapsed:>3} {wide_msg}",
        ]
    } else {
        [
            "{spinner} [{prefix}] {elapsed:>3} {wide_msg}",
            "✓ [{prefix}] {elapsed:>3} {wide_msg}",
            "✗ [{prefix}] {elapsed:>3} {wide_msg}",
        ]
    }
}

struct Bar {
    bar: ProgressBar,
    finished: bool,
}

impl Display {
    fn new(style: Style) -> Self {
        match style {
            Style::Quiet => Self::Quiet,
            Style::Lines => Self::Lines,
            Style::Bars { colour } => {
                let [running, done, ended] = templates(colour).map(|template| {
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
                });
                let styles = Box::new(Styles { running, done, ended });
                Self::Bars { all: MultiProgress::new(), nodes: BTreeMap::new(), styles }
            }
        }
    }

    fn show(&mut self, event: &Progress) {
        match self {
            Self::Quiet if event.level() == Level::Warning => say(&line(event)),
            Self::Quiet => {}
            Self::Lines => say(&line(event)),
            Self::Bars { all, nodes, styles } => {
                if event.level() == Level::Warning {
                    // Stays on the screen; the moving lines go on below it.
                    all.suspend(|| say(&line(event)));
                }
                let bar = nodes.entry(event.node.clone()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::new_spinner().with_style(styles.running.clone()));
                    bar.set_prefix(printable(&event.node));
                    bar.enable_steady_tick(Duration::from_millis(100));
                    Bar { bar, finished: false }
                });
                let ready = event.level() == Level::Ready && event.wanted > 0 && event.ready >= event.wanted;
                if ready && !bar.finished {
                    bar.finished = true;
                    bar.bar.set_style(styles.done.clone());
                    bar.bar.finish_with_message(message(event));
                } else if !bar.finished {
                    bar.bar.set_message(message(event));
                }
            }
        }
    }

    /// The stream ended well: what still moves has come to its end too.
    fn finish(&mut self) {
        if let Self::Bars { nodes, styles, .. } = self {
            for bar in nodes.values_mut().filter(|bar| !bar.finished) {
                bar.finished = true;
                bar.bar.set_style(styles.done.clone());
                bar.bar.finish();
            }
        }
    }
}

impl Drop for Display {
    /// The last line of what did not end stays on the screen, above the error.
    fn drop(&mut self) {
        if let Self::Bars { nodes, styles, .. } = self {
            for bar in nodes.values().filter(|bar| !bar.finished) {
                bar.bar.set_style(styles.ended.clone());
                bar.bar.abandon();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pod: &str, text: &str, level: Level, ready: u32) -> Progress {
        Progress {
            at: None,
            node: "kube0".into(),
            pod: pod.into(),
            text: text.into(),
            level: level.into(),
            ready,
            wanted: 2,
        }
    }

    #[test]
    fn each_event_is_one_plain_line() {
        for (event, wanted) in [
            (
                event("kube0-abc", "pulling image moby/buildkit", Level::Info, 0),
                "[kube0] kube0-abc: pulling image moby/buildkit",
            ),
            (event("", "created the deployment", Level::Info, 0), "[kube0] created the deployment"),
            (event("kube0-abc", "", Level::Ready, 1), "[kube0] kube0-abc: ready (1/2)"),
            (event("kube0-abc", "answers", Level::Ready, 2), "[kube0] kube0-abc: answers (2/2)"),
            (
                event("kube0-abc", "pull failed:\n not found\u{1b}[2J", Level::Warning, 0),
                "warning: [kube0] kube0-abc: pull failed:  not found [2J",
            ),
        ] {
            assert_eq!(line(&event), wanted);
        }
    }

    #[test]
    fn the_templates_of_the_moving_lines_are_valid() {
        for colour in [true, false] {
            for template in templates(colour) {
                assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
                assert!(["prefix", "elapsed", "wide_msg"].iter().all(|key| template.contains(key)), "{template}");
            }
        }
    }
}
