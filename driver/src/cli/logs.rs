//! `buildfleet logs`: the output of a node's pods.

use std::collections::BTreeMap;

use buildfleet_proto::fleet::{LogChunk, LogsRequest};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::output::{Format, json_line, print};

/// Print the output of a node's pods, each line after the name of its pod
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    node: String,
    /// The node's builder, when two have a node of that name
    #[arg(long)]
    builder: Option<String>,
    /// Go on with what the pods write
    #[arg(long, short)]
    follow: bool,
    /// Only the last N lines of each pod
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tail: Option<u32>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let doing = format!("read the logs of node {}", args.node);
    let request = LogsRequest {
        builder: args.builder.unwrap_or_default(),
        node: args.node,
        follow: args.follow,
        tail: args.tail.unwrap_or(0),
    };
    let mut stream = match client.logs(request).await {
        Ok(stream) => stream,
        Err(failure) => return Err(client.with_what_there_is(failure.doing(doing)).await),
    };
    let mut lines = Lines::default();
    loop {
        // As long as the user likes: Ctrl-C ends it.
        match stream.message().await {
            Ok(Some(chunk)) => write(&lines.take(chunk), context.format)?,
            Ok(None) => break,
            Err(status) => {
                write(&lines.rest(), context.format)?;
                return Err(Failure::refused(status).doing(doing));
            }
        }
    }
    write(&lines.rest(), context.format)
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    pod: String,
    line: String,
}

fn write(lines: &[Line], format: Format) -> Result<(), Failure> {
    let text: Result<String, Failure> = lines
        .iter()
        .map(|line| match format {
            Format::Text => Ok(format!("[{}] {}\n", line.pod, line.line)),
            Format::Json => json_line(line),
        })
        .collect();
    print(text?)
}

/// The longest line that is held back for its end.
const LINE_MAX: usize = 64 * 1024;

/// Chunks into whole lines, so that those of two pods do not mix.
#[derive(Debug, Default)]
struct Lines(BTreeMap<String, Vec<u8>>);

impl Lines {
    fn take(&mut self, chunk: LogChunk) -> Vec<Line> {
        let LogChunk { pod, data } = chunk;
        let held = self.0.entry(pod.clone()).or_default();
        held.extend_from_slice(&data);
        let end = match held.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None if held.len() > LINE_MAX => held.len(),
            None => return Vec::new(),
        };
        let whole: Vec<u8> = held.drain(..end).collect();
        lines_of(&pod, &whole)
    }

    /// What has no end.
    fn rest(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.0).iter().flat_map(|(pod, held)| lines_of(pod, held)).collect()
    }
}

fn lines_of(pod: &str, bytes: &[u8]) -> Vec<Line> {
    let line = |line: &str| Line { pod: pod.to_owned(), line: line.to_owned() };
    String::from_utf8_lossy(bytes).lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(pod: &str, data: &str) -> LogChunk {
        LogChunk { pod: pod.into(), data: data.into() }
    }

    fn line(pod: &str, line: &str) -> Line {
        Line { pod: pod.into(), line: line.into() }
    }

    #[test]
    fn lines_of_two_pods_do_not_mix() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(chunk("a", "one\ntw")), [line("a", "one")]);
        assert_eq!(lines.take(chunk("b", "eins\n")), [line("b", "eins")]);
        assert_eq!(lines.take(chunk("a", "o\n\nthree")), [line("a", "two"), line("a", "")]);
        assert_eq!(lines.rest(), [line("a", "three")]);
        assert_eq!(lines.rest(), []);
    }

    #[test]
    fn a_line_without_an_end_is_not_held_back_for_ever() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(chunk("a", &"x".repeat(LINE_MAX + 1))).len(), 1);
        assert_eq!(lines.rest(), []);
    }
}
