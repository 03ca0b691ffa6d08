//! `buildfleet inspect`: all that is known of one builder.

use std::time::Duration;

use buildfleet_proto::Timestamp;
use buildfleet_proto::fleet::{Builder, BuildkitdConfig, Node, Placement};

use super::client::within;
use super::failure::Failure;
use super::json::{BuilderView, is_mixed};
use super::output::{Format, json_line, print};
use super::table::{columns, printable};
use super::units::whole_seconds;
use super::{Context, platforms, start};

/// Show a builder, its nodes and their pods; starts no pod unless `--bootstrap` is given
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    pub(super) name: Option<String>,
    /// Start the builder's pods first and wait until they are ready
    #[arg(long)]
    pub(super) bootstrap: bool,
    /// Show how pods are chosen, and where the latest builds went and why
    #[arg(long)]
    pub(super) placement: bool,
    /// How long the status may take to load, for buildx's own `--timeout`.
    #[arg(skip)]
    pub(super) limit: Option<Duration>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let name = context.builder(args.name);
    let mut builder = within(args.limit, client.inspect(&name)).await?;
    if args.bootstrap {
        start::bootstrap(&mut client, context, &builder.name, "").await?;
        builder = client.inspect(&builder.name).await?;
    }
    if !args.placement {
        builder.nodes.iter_mut().for_each(|node| node.placement = None);
    }
    match context.format {
        Format::Text => print(text(&builder)),
        Format::Json => print(json_line(&BuilderView::from(builder))?),
    }
}

/// buildx's layout, with our own lines in their places.
fn text(builder: &Builder) -> String {
    let mut head = vec![line("Name:", &builder.name), line("Driver:", &builder.driver)];
    if let Some(last) = &builder.last_activity {
        head.push(line("Last Activity:", &date(last)));
    }
    head.push(line("Socket:", &format!("unix://{}", builder.socket)));
    let mut text = columns(&head, 0, 1);
    text.push_str("\nNodes:\n");
    for (i, node) in builder.nodes.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        text.push_str(&node_text(node, is_mixed(builder)));
    }
    text
}

fn node_text(node: &Node, with_driver: bool) -> String {
    let mut lines = vec![line("Name:", &node.name), line("Endpoint:", &node.endpoint)];
    if with_driver {
        lines.push(line("Driver:", &node.driver));
    }
    if !node.driver_opts.is_empty() {
        let mut opts: Vec<String> = node.driver_opts.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        opts.sort();
        lines.push(line("Driver Options:", &opts.join(" ")));
    }
    lines.push(line("Status:", &node.status));
    if !node.reason.is_empty() {
        lines.push(line("Error:", &node.reason.trim().replace('\n', "; ")));
    }
    if !node.drift.is_empty() {
        lines.push(line("Drift:", &node.drift));
    }
    if !node.owner.is_empty() {
        lines.push(line("Made by:", &node.owner));
    }
    if !node.users.is_empty() {
        lines.push(line("Used by:", &node.users.join(", ")));
    }
    if !node.buildkitd_flags.is_empty() {
        lines.push(line("BuildKit daemon flags:", &node.buildkitd_flags.join(" ")));
    }
    if !node.buildkit_version.is_empty() {
        lines.push(line("BuildKit version:", &node.buildkit_version));
    }
    let marked = platforms::marked(&node.platforms, &node.worker_platforms);
    if !marked.is_empty() {
        lines.push(line("Platforms:", &marked.join(", ")));
    }
    lines.push(line("Socket:", &format!("unix://{}", node.socket)));
    if let Some(placement) = &node.placement {
        lines.push(line("Load Balancing:", &placement.policy));
    }
    let ready = node.pods.iter().filter(|pod| pod.status == "ready").count();
    lines.push(line("Pods:", &format!("{ready} of {} ready", node.wanted)));
    let mut text = columns(&lines, 0, 1);

    if !node.pods.is_empty() {
        let header = [" NAME", "STATUS", "HOST", "TRANSPORT", "BUILDS", "REASON"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(node.pods.iter().map(|pod| {
            let builds = pod.builds.to_string();
            let name = format!(" {}", pod.name);
            [&name, &pod.status, &pod.host, &pod.transport, &builds, &pod.reason].map(Clone::clone).to_vec()
        }));
        text.push_str(&columns(&rows, 0, 2));
    }
    if let Some(placement) = &node.placement {
        text.push_str(&placed(placement));
    }
    if !node.worker_labels.is_empty() {
        let mut labels: Vec<_> = node.worker_labels.iter().collect();
        labels.sort();
        let rows: Vec<_> = labels.into_iter().map(|(key, value)| line(&format!(" {key}:"), value)).collect();
        text.push_str("Labels:\n");
        text.push_str(&columns(&rows, 0, 1));
    }
    if let Some(config) = &node.buildkitd_config {
        text.push_str(&configured(config));
    }
    text
}

/// The files that `buildkitd` is configured by, as buildx shows them. Certificates and keys are not for a terminal.
fn configured(config: &BuildkitdConfig) -> String {
    let mut text = "File#buildkitd.toml:\n".to_owned();
    config.toml.lines().for_each(|line| text.push_str(&format!(" > {}\n", printable(line))));
    let mut names: Vec<&String> = config.files.keys().collect();
    names.sort();
    names.into_iter().for_each(|name| text.push_str(&format!("File#{}\n", printable(name))));
    text
}

/// Where the latest builds went.
fn placed(placement: &Placement) -> String {
    if placement.latest.is_empty() {
        return "Builds: none since the daemon was started\n".to_owned();
    }
    let mut rows = vec![[" PLACED", "REF", "POD", "BECAUSE"].map(str::to_owned).to_vec()];
    rows.extend(placement.latest.iter().map(|placed| {
        let at = placed.at.unwrap_or_default();
        let at = format!(" {}", date(&at));
        [&at, &placed.build_ref, &placed.pod, &placed.because].map(Clone::clone).to_vec()
    }));
    format!("Builds:\n{}", columns(&rows, 0, 2))
}

/// A name and its value.
fn line(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), printable(value)]
}

/// Go's spelling of a time in UTC, which buildx prints, to the second. 1970 is no time at all.
fn date(at: &Timestamp) -> String {
    if at.seconds == 0 { "never".to_owned() } else { format!("{} +0000 UTC", whole_seconds(at)) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use buildfleet_proto::fleet::Placed;

    use super::*;
    use crate::cli::samples;

    #[test]
    fn the_layout_is_buildx_s_with_our_own_lines() {
        let wanted = include_str!("../../../testdata/cli/inspect.txt");
        assert_eq!(text(&samples::builders()[0]), wanted);
    }

    #[test]
    fn a_node_that_was_never_started_shows_what_is_known() {
        let node =
            Node { name: "a0".into(), endpoint: "local://".into(), status: "inactive".into(), ..Node::default() };
        assert_eq!(
            node_text(&node, false),
            "Name:     a0\nEndpoint: local://\nStatus:   inactive\nSocket:   unix://\nPods:     0 of 0 ready\n"
        );
    }

    #[test]
    fn placements_are_shown_with_their_reasons_newest_first() {
        let placed = |seconds, build_ref: &str, because: &str| Placed {
            build_ref: build_ref.into(),
            pod: "a0-0".into(),
            because: because.into(),
            at: Some((SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into()),
        };
        let latest = vec![
            placed(1_795_259_773, "r2", "home of project github.com/team/app"),
            placed(1_795_259_700, "r1", "two\nlines"),
        ];
        let placement = |latest| Some(Placement { policy: "sticky".into(), latest });
        let node = |latest| Node { name: "a0".into(), placement: placement(latest), ..Node::default() };
        assert_eq!(
            node_text(&node(latest), false),
            "Name:           a0\nEndpoint:\nStatus:\nSocket:         unix://\n\
             Load Balancing: sticky\nPods:           0 of 0 ready\n\
             Builds:\n \
             PLACED                         REF  POD   BECAUSE\n \
             2026-11-21 11:16:13 +0000 UTC  r2   a0-0  home of project github.com/team/app\n \
             2026-11-21 11:15:00 +0000 UTC  r1   a0-0  two lines\n"
        );
        assert!(node_text(&node(Vec::new()), false).ends_with("\nBuilds: none since the daemon was started\n"));
    }

    #[test]
    fn a_configuration_is_shown_without_its_keys_and_an_option_in_one_line() {
        let files = [("certs/r/key.pem".to_owned(), String::new()), ("certs/r/ca.pem".to_owned(), String::new())];
        let config = BuildkitdConfig { toml: "debug = true\n[worker.oci]\n".into(), files: files.into() };
        let driver_opts = [("affinity".to_owned(), "a: \"b\"\nc: d".to_owned())].into();
        let node = Node { name: "a0".into(), driver_opts, buildkitd_config: Some(config), ..Node::default() };
        assert_eq!(
            node_text(&node, false),
            "Name:           a0\nEndpoint:\nDriver Options: affinity=\"a: \\\"b\\\"\\nc: d\"\nStatus:\n\
             Socket:         unix://\nPods:           0 of 0 ready\nFile#buildkitd.toml:\n > debug = true\n \
             > [worker.oci]\nFile#certs/r/ca.pem\nFile#certs/r/key.pem\n"
        );
    }

    #[test]
    fn times_are_spelled_as_go_does() {
        assert_eq!(date(&Timestamp { seconds: 1_795_259_773, nanos: 500_000_000 }), "2026-11-21 11:16:13 +0000 UTC");
        assert_eq!(date(&Timestamp::default()), "never");
    }
}
