//! `buildfleet logs`: the output of a node's pods.

use std::collections::BTreeMap;

use buildfleet_proto::fleet::{LogChunk, LogsRequest};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::lines::Held;
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

/// Chunks into whole lines, so that those of two pods do not mix.
#[derive(Debug, Default)]
struct Lines(BTreeMap<String, Held>);

impl Lines {
    fn take(&mut self, chunk: LogChunk) -> Vec<Line> {
        let LogChunk { pod, data } = chunk;
        let lines = self.0.entry(pod.clone()).or_default().take(&data);
        lines.into_iter().map(|line| Line { pod: pod.clone(), line }).collect()
    }

    /// What has no end.
    fn rest(&mut self) -> Vec<Line> {
        let rest = |(pod, mut held): (String, Held)| held.rest().map(|line| Line { pod, line });
        std::mem::take(&mut self.0).into_iter().filter_map(rest).collect()
    }
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
}
