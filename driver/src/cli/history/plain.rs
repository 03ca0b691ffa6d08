//! A build's log as plain lines, a step after the other, as `docker buildx build --progress=plain` prints it: pure.

use std::collections::{BTreeMap, HashMap};

use buildfleet_proto::Timestamp;
use buildfleet_proto::buildkit::{StatusResponse, Vertex, VertexLog, VertexStatus};

use crate::cli::lines::Held;
use crate::cli::table::printable;
use crate::cli::units;

/// What is known of the steps so far.
#[derive(Debug, Default)]
pub(super) struct Plain {
    steps: HashMap<String, Step>,
    /// The step whose lines came last.
    current: Option<usize>,
}

#[derive(Debug)]
struct Step {
    number: usize,
    name: String,
    started: Option<Timestamp>,
    /// Its end was told.
    over: bool,
    /// Of each stream.
    open: BTreeMap<i64, Held>,
    /// Parts whose end was told.
    parts: Vec<String>,
}

impl Plain {
    /// The lines for one more message.
    pub(super) fn lines(&mut self, told: &StatusResponse) -> String {
        let mut text = String::new();
        // Names first: one message may have a step and its output.
        for vertex in &told.vertexes {
            self.learn(vertex);
        }
        for vertex in told.vertexes.iter().filter(|vertex| vertex.started.is_some() && vertex.completed.is_none()) {
            self.headed(&vertex.digest, &mut text, |_| None);
        }
        for status in &told.statuses {
            self.headed(&status.vertex, &mut text, |step| step.part(status));
        }
        for log in &told.logs {
            self.headed(&log.vertex, &mut text, |step| step.output(log));
        }
        for vertex in told.vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            self.headed(&vertex.digest, &mut text, |step| step.end(vertex));
        }
        text
    }

    fn learn(&mut self, vertex: &Vertex) {
        let number = self.steps.len() + 1;
        let step = self.steps.entry(vertex.digest.clone()).or_insert_with(|| Step {
            number,
            name: printable(&vertex.name),
            started: None,
            over: false,
            open: BTreeMap::new(),
            parts: Vec::new(),
        });
        step.started = step.started.or(vertex.started);
    }

    /// Lines of a step, below its name when another step's came last.
    fn headed(&mut self, digest: &str, text: &mut String, lines: impl FnOnce(&mut Step) -> Option<String>) {
        let Some(step) = self.steps.get_mut(digest).filter(|step| !step.over) else { return };
        let is_first = step.parts.is_empty() && step.open.is_empty() && self.current != Some(step.number);
        let lines = lines(step);
        if lines.is_none() && !is_first {
            return;
        }
        if self.current != Some(step.number) {
            let gap = if self.current.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}#{} {}\n", step.number, step.name));
            self.current = Some(step.number);
        }
        text.push_str(&lines.unwrap_or_default());
    }
}

impl Step {
    fn line(&self, text: &str) -> String {
        format!("#{} {}\n", self.number, printable(text).trim_end())
    }

    /// A transfer, when it is done.
    fn part(&mut self, status: &VertexStatus) -> Option<String> {
        if status.completed.is_none() || self.parts.contains(&status.id) {
            return None;
        }
        self.parts.push(status.id.clone());
        let amount = match (status.current, status.total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", units::size(current)),
            (current, total) => format!(" {} / {}", units::size(current), units::size(total)),
        };
        Some(self.line(&format!("{}{amount} done", status.id)))
    }

    /// Whole lines, each with its second.
    fn output(&mut self, log: &VertexLog) -> Option<String> {
        let at = match (&self.started, &log.timestamp) {
            (Some(started), Some(at)) => units::between(started, at).as_secs_f64(),
            _ => 0.0,
        };
        let lines = self.open.entry(log.stream).or_default().take(&log.msg);
        let lines: String = lines.iter().map(|line| self.line(&format!("{at:.3} {line}"))).collect();
        (!lines.is_empty()).then_some(lines)
    }

    /// What was left without an end, and how the step ended.
    fn end(&mut self, vertex: &Vertex) -> Option<String> {
        let open = std::mem::take(&mut self.open);
        let rests = open.into_values().filter_map(|mut held| held.rest());
        let mut text: String = rests.map(|line| self.line(&line)).collect();
        self.over = true;
        text.push_str(&if !vertex.error.is_empty() {
            self.line(&format!("ERROR: {}", vertex.error))
        } else if vertex.cached {
            self.line("CACHED")
        } else {
            let took = match (&self.started, &vertex.completed) {
                (Some(started), Some(completed)) => units::between(started, completed),
                _ => std::time::Duration::ZERO,
            };
            self.line(&format!("DONE {}", units::took(took)))
        });
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds: millis / 1000, nanos: i32::try_from(millis % 1000).unwrap() * 1_000_000 })
    }

    fn vertex(digest: &str, started: i64, completed: Option<i64>) -> Vertex {
        let name = format!("step {digest}");
        let completed = completed.and_then(at);
        Vertex { digest: digest.into(), name, started: at(started), completed, ..Vertex::default() }
    }

    fn log(digest: &str, millis: i64, text: &str) -> VertexLog {
        VertexLog { vertex: digest.into(), timestamp: at(millis), stream: 1, msg: text.into() }
    }

    #[test]
    fn steps_are_told_with_their_output_and_their_end() {
        let part = |completed| VertexStatus {
            id: "transferring".into(),
            vertex: "a".into(),
            current: 79,
            completed,
            total: 0,
        };
        let messages = [
            StatusResponse { vertexes: vec![vertex("a", 1000, None)], ..StatusResponse::default() },
            StatusResponse { statuses: vec![part(None), part(at(1)), part(at(1))], ..StatusResponse::default() },
            StatusResponse {
                vertexes: vec![vertex("b", 2000, None)],
                logs: vec![log("b", 2500, "one\ntw"), log("a", 2600, "other\n"), log("b", 2700, "o\u{1b}[2J\nopen")],
                ..StatusResponse::default()
            },
            StatusResponse { vertexes: vec![vertex("a", 1000, Some(2_900))], ..StatusResponse::default() },
            StatusResponse {
                vertexes: vec![
                    Vertex { error: "exit code: 1".into(), ..vertex("b", 2000, Some(3_000)) },
                    Vertex { cached: true, ..vertex("c", 3_000, Some(3_000)) },
                ],
                ..StatusResponse::default()
            },
        ];
        let mut plain = Plain::default();
        let text: String = messages.iter().map(|message| plain.lines(message)).collect();
        assert_eq!(text, include_str!("../../../../testdata/cli/plain.txt"));
        // What is told again is not printed again.
        assert_eq!(plain.lines(&messages[4]), "");
    }

    #[test]
    fn output_of_an_unknown_step_is_dropped() {
        let message = StatusResponse { logs: vec![log("x", 1, "y\n")], ..StatusResponse::default() };
        assert_eq!(Plain::default().lines(&message), "");
    }
}
