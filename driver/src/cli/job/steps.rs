//! The steps of a build, read from the lines that `buildctl --progress=plain` writes in the pod. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::cli::lines::Held;
use crate::cli::table::printable;

/// How many of a step's lines are kept.
const LAST_LINES: usize = 6;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Cached,
    Canceled,
    Failed,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: String,
    /// Seconds by the view's clock.
    pub(super) started: f64,
    pub(super) ended: Option<Ended>,
    /// What it took by its own account.
    pub(super) took: Option<f64>,
    /// The latest of its output.
    pub(super) lines: VecDeque<String>,
    /// What it transfers, by its name: what has ended goes.
    pub(super) parts: BTreeMap<String, String>,
}

/// What one more line means.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// A step came to its end.
    Ended(u32),
    /// A step has begun, or something in it has changed.
    Changed,
    /// The line is about no step.
    Other(String),
}

/// All steps so far.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: BTreeMap<u32, Step>,
    held: Held,
}

impl Steps {
    /// Takes more output at `now`, in seconds.
    pub(super) fn take(&mut self, output: &[u8], now: f64) -> Vec<Line> {
        self.held.take(output).iter().map(|line| self.line(line, now)).collect()
    }

    /// What has no end.
    pub(super) fn rest(&mut self, now: f64) -> Option<Line> {
        self.held.rest().map(|line| self.line(&line, now))
    }

    pub(super) fn get(&self, number: u32) -> Option<&Step> {
        self.steps.get(&number)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Step> {
        self.steps.values().filter(|step| step.ended.is_none())
    }

    /// How many have ended, and how many there are.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.steps.len() - self.running().count(), self.steps.len())
    }

    fn line(&mut self, line: &str, now: f64) -> Line {
        let other = || Line::Other(printable(line));
        let Some((number, text)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) else { return other() };
        let Ok(number) = number.parse::<u32>() else { return other() };
        let text = printable(text);
        let Some(step) = self.steps.get_mut(&number) else {
            // Its name is what is told of a step first.
            let step = Step {
                name: text,
                started: now,
                ended: None,
                took: None,
                lines: VecDeque::new(),
                parts: BTreeMap::new(),
            };
            self.steps.insert(number, step);
            return Line::Changed;
        };
        if text == "..." || text == step.name || step.ended.is_some() {
            return Line::Changed;
        }
        let end = match text.split_once(' ').unwrap_or((&text, "")) {
            ("CACHED", "") => Some((Ended::Cached, None)),
            ("CANCELED", "") => Some((Ended::Canceled, None)),
            ("ERROR:", error) => {
                step.keep(format!("ERROR: {error}"));
                Some((Ended::Failed, None))
            }
            ("DONE", took) => {
                seconds(took).map(|took| (Ended::Done, Some(took))).or((took.is_empty()).then_some((Ended::Done, None)))
            }
            _ => None,
        };
        if let Some((ended, took)) = end {
            (step.ended, step.took) = (Some(ended), took.or(Some(now - step.started)));
            step.parts.clear();
            return Line::Ended(number);
        }
        step.told(&text, now);
        Line::Changed
    }
}

impl Step {
    fn told(&mut self, text: &str, now: f64) {
        // Output of a command has its second in front of it, and the step may have begun before anybody looked.
        if let Some((at, said)) = text.split_once(' ')
            && let Some(at) = at.parse::<f64>().ok().filter(|_| at.contains('.'))
        {
            self.started = self.started.min(now - at);
            return self.keep(said.to_owned());
        }
        // A transfer: `sha256:… 1.05MB / 3.6MB 0.2s`, and ` done` at its end.
        match text.split_once(' ') {
            Some((name, rest)) if rest.ends_with("done") || rest == "done" => {
                self.parts.remove(name);
            }
            Some((name, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                self.parts.insert(name.to_owned(), rest.to_owned());
            }
            _ => self.keep(text.to_owned()),
        }
    }

    fn keep(&mut self, line: String) {
        if self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// `0.3s`
fn seconds(text: &str) -> Option<f64> {
    text.strip_suffix('s')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = include_str!("../../../../testdata/job/plain.log");

    #[test]
    fn a_recorded_build_is_read_as_its_steps_whatever_the_pieces() {
        for piece in [1, 7, 4096] {
            let (mut steps, mut ended, mut other) = (Steps::default(), Vec::new(), Vec::new());
            for chunk in LOG.as_bytes().chunks(piece) {
                for line in steps.take(chunk, 100.0) {
                    match line {
                        Line::Ended(number) => ended.push(number),
                        Line::Other(line) if !line.is_empty() => other.push(line),
                        Line::Other(_) | Line::Changed => {}
                    }
                }
            }
            assert_eq!(steps.rest(100.0), None);
            assert_eq!(steps.count(), (6, 6), "{piece}");
            assert_eq!(ended, [1, 2, 3, 4, 5, 6], "{piece}");
            let step = steps.get(5).expect("it was told");
            assert_eq!(
                (step.name.as_str(), &step.ended, step.took),
                ("[2/3] RUN echo one && sleep 1 && echo two", &Some(Ended::Done), Some(1.2))
            );
            assert_eq!(step.lines, ["one", "two"]);
            assert_eq!(steps.get(4).map(|step| &step.ended), Some(&Some(Ended::Cached)));
            let failed = steps.get(6).expect("it was told");
            assert_eq!(failed.ended, Some(Ended::Failed));
            assert_eq!(
                failed.lines.back().map(String::as_str),
                Some("ERROR: process \"/bin/sh -c false\" did not complete successfully: exit code: 1")
            );
            assert!(other.last().is_some_and(|line| line.starts_with("error: failed to solve:")), "{other:?}");
        }
    }

    #[test]
    fn what_a_running_step_says_is_kept_and_its_beginning_is_known() {
        let mut steps = Steps::default();
        steps.take(b"#3 [1/2] FROM x\n#3 sha256:aa 1.05MB / 3.6MB 0.2s\n#3 sha256:bb 2MB / 2MB 0.1s\n#3 sha256:bb 2MB / 2MB 0.1s done\n", 10.0);
        steps.take(b"#4 [2/2] RUN make\n#4 30.5 one\n#4 31.0 \x1b[2Jtwo\n\n#3 ...\n", 40.0);
        let running: Vec<&Step> = steps.running().collect();
        assert_eq!(running[0].parts, BTreeMap::from([("sha256:aa".into(), "1.05MB / 3.6MB 0.2s".into())]));
        assert!((running[1].started - 9.0).abs() < 0.01, "{}", running[1].started);
        assert_eq!(running[1].lines, ["one", " [2Jtwo"]);
        for line in 0..20 {
            steps.take(format!("#4 {line}.0 line {line}\n").as_bytes(), 60.0);
        }
        assert_eq!(steps.get(4).expect("it runs").lines.len(), LAST_LINES);
        assert_eq!(steps.take(b"error: x\n#no\n#5x\n#x y\n", 60.0).len(), 4);
        assert_eq!(steps.count(), (0, 2));
    }
}
