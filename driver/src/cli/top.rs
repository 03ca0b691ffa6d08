//! `buildfleet top`: the pods of a builder, what runs on them, and what they use.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use buildfleet_proto::fleet::{Builder, PodUsage, UsageResponse};
use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::fields::{Column, Row};
use super::history::running;
use super::output::{Format, json_line, json_value, print, say};
use super::progress::{can_move, interrupts};
use super::table::{columns, printable};
use super::{Context, buildkit, units};
use crate::settings::Process;

/// Between two looks: the metrics of a cluster change more slowly.
const PAUSE: Duration = Duration::from_secs(2);

/// Show a builder's pods, the builds that run on them, and their CPU and memory; starts no pod
///
/// On a terminal it goes on until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    name: Option<String>,
    /// Look once, also on a terminal
    #[arg(long)]
    once: bool,
}

/// A pod, and what it uses.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PodView<'a> {
    pod: &'a str,
    node: &'a str,
    status: &'a str,
    builds: u32,
    #[serde(rename = "CPUMillis", skip_serializing_if = "Option::is_none")]
    cpu_millis: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    transport: &'a str,
}

const COLUMNS: [Column; 8] = [
    Column { name: "Pod", header: "POD" },
    Column { name: "Node", header: "NODE" },
    Column { name: "Status", header: "STATUS" },
    Column { name: "Builds", header: "BUILDS" },
    Column { name: "CPU", header: "CPU" },
    Column { name: "Memory", header: "MEMORY" },
    Column { name: "Host", header: "HOST" },
    Column { name: "Transport", header: "TRANSPORT" },
];

/// What was seen at one look.
#[derive(Debug)]
struct Look {
    builder: Builder,
    usage: UsageResponse,
    builds: Vec<Running>,
}

/// A build that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) build: String,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) began: SystemTime,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let name = client.inspect(&context.builder(args.name)).await?.name;
    let as_text = context.format == Format::Text && context.fields.is_none();
    if args.once || !as_text || !std::io::stdout().is_terminal() || !can_move(&Process) {
        let look = look(&mut client, context, &name).await?;
        look.usage.unknown.iter().for_each(|why| context.info(&unknown(why)));
        return print(shown(&look, context)?);
    }
    let mut interrupts = interrupts()?;
    let looking = async {
        loop {
            let look = look(&mut client, context, &name).await?;
            // The whole screen anew, from its first line on.
            print(format!("\x1b[H\x1b[2J{}", screen(&look)))?;
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        failed = looking => failed,
        _ = interrupts.recv() => {
            // Below the terminal's own `^C`.
            say("");
            Ok(())
        }
    }
}

async fn look(client: &mut Client, context: &Context, name: &str) -> Result<Look, Failure> {
    let usage = client.usage(name).await?;
    let builds = match buildkit::connect(context, Some(name.to_owned())).await {
        Ok((_, nodes)) => running(context, &nodes).await?,
        Err(failure) => return Err(failure),
    };
    Ok(Look { builder: client.inspect(name).await?, usage, builds })
}

fn shown(look: &Look, context: &Context) -> Result<String, Failure> {
    if let Some(fields) = &context.fields {
        let rows = rows(look).into_iter().map(|(view, cells)| Ok(Row::new(cells, json_value(&view)?)));
        return fields.render(&COLUMNS, &rows.collect::<Result<Vec<_>, Failure>>()?);
    }
    match context.format {
        Format::Json => rows(look).iter().map(|(view, _)| json_line(view)).collect(),
        Format::Text => Ok(text(look, SystemTime::now())),
    }
}

/// Each pod as a document and as cells.
fn rows(look: &Look) -> Vec<(PodView<'_>, Vec<String>)> {
    let used: HashMap<&str, &PodUsage> = look.usage.pods.iter().map(|used| (used.pod.as_str(), used)).collect();
    let pods = look.builder.nodes.iter().flat_map(|node| node.pods.iter().map(move |pod| (node, pod)));
    let row = |(node, pod): (&'_ buildfleet_proto::fleet::Node, &'_ buildfleet_proto::fleet::Pod)| {
        let used = used.get(pod.name.as_str());
        vec![
            pod.name.clone(),
            node.name.clone(),
            pod.status.clone(),
            pod.builds.to_string(),
            used.map(|used| cpu(used.cpu_millis)).unwrap_or_else(|| "-".to_owned()),
            used.map(|used| memory(used.memory_bytes)).unwrap_or_else(|| "-".to_owned()),
            pod.host.clone(),
            pod.transport.clone(),
        ]
    };
    pods.map(|(node, pod)| {
        let used = used.get(pod.name.as_str());
        let view = PodView {
            pod: &pod.name,
            node: &node.name,
            status: &pod.status,
            builds: pod.builds,
            cpu_millis: used.map(|used| used.cpu_millis),
            memory_bytes: used.map(|used| used.memory_bytes),
            host: &pod.host,
            transport: &pod.transport,
        };
        (view, row((node, pod)))
    })
    .collect()
}

/// In CPUs.
fn cpu(millis: u64) -> String {
    format!("{:.2}", millis as f64 / 1000.0)
}

fn memory(bytes: u64) -> String {
    units::binary_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// How many of the columns fit a page.
const SHOWN: usize = 7;

fn text(look: &Look, now: SystemTime) -> String {
    let header = COLUMNS[..SHOWN].iter().map(|column| column.header.to_owned()).collect();
    let rows = rows(look).into_iter().map(|(_, cells)| cells[..SHOWN].to_vec());
    let mut text = columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), 0, 2);
    if !look.builds.is_empty() {
        let header = ["BUILD", "NAME", "NODE", "RUNS FOR"].map(str::to_owned).to_vec();
        let builds = look.builds.iter().map(|it| {
            let spent = units::took(now.duration_since(it.began).unwrap_or_default());
            vec![it.build.clone(), it.name.clone(), it.node.clone(), spent]
        });
        text.push('\n');
        text.push_str(&columns(&std::iter::once(header).chain(builds).collect::<Vec<_>>(), 0, 2));
    }
    text
}

/// As much of it as the terminal has room for.
fn screen(look: &Look) -> String {
    let size = terminal_size::terminal_size();
    let (width, height) = size.map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
    let nodes: Vec<String> = look.builder.nodes.iter().map(|node| format!("{} {}", node.name, node.status)).collect();
    let mut text = format!("builder {}: {}\n\n", look.builder.name, nodes.join(", "));
    text.push_str(&self::text(look, SystemTime::now()));
    for why in &look.usage.unknown {
        text.push_str(&format!("\n{}\n", printable(&unknown(why))));
    }
    cut(&text, width, height)
}

fn unknown(why: &str) -> String {
    format!("CPU and memory are not known: {why}")
}

/// Without what would move the lines above it off the screen.
fn cut(text: &str, width: usize, height: usize) -> String {
    let lines = text.lines().map(|line| line.chars().take(width).collect::<String>());
    // The cursor stands below the last line.
    lines.take(height.saturating_sub(1)).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    fn look() -> Look {
        let builder = samples::builders().remove(0);
        let used = PodUsage { pod: "kube0-7d4b9c6f5-abcde".into(), cpu_millis: 1250, memory_bytes: 1_288_490_188 };
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let builds = vec![Running { build: "k2j6h5".into(), name: "app (test)".into(), node: "kube0".into(), began }];
        Look { builder, usage: UsageResponse { pods: vec![used], unknown: Vec::new() }, builds }
    }

    #[test]
    fn pods_are_shown_with_what_they_use_and_what_runs() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(165);
        let text = text(&look(), now);
        assert_eq!(text, include_str!("../../../testdata/cli/top.txt"));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn json_leaves_out_what_is_not_known() {
        let look = look();
        let lines: String = rows(&look).iter().map(|(view, _)| json_line(view).expect("it is JSON")).collect();
        assert_eq!(lines, include_str!("../../../testdata/cli/top.json"));
        assert!(rows(&look).iter().all(|(_, cells)| cells.len() == COLUMNS.len()));
    }

    #[test]
    fn a_small_terminal_gets_a_part() {
        assert_eq!(cut("abcdef\ngh\ni\n", 4, 3), "abcd\ngh\n");
        assert_eq!(cut("a\n", 80, 24), "a\n");
    }
}
