//! `buildfleet prune`: takes cache records away from all pods.

use std::io::{BufRead, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use buildfleet_proto::buildkit::{PruneRequest, UsageRecord};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::buildkit::{self, Chosen, NodeApi};
use super::client::within;
use super::du::{Found, HEADER};
use super::failure::Failure;
use super::filter::CacheFilters;
use super::output::{Format, json_line, print};
use super::table::tabbed;
use super::{Context, units};

/// Remove build cache from all pods that run; starts none
///
/// An amount of space holds for each pod, because each has a cache of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) builder: Chosen,
    /// Also what frontends and the builds themselves keep
    #[arg(long, short)]
    pub(super) all: bool,
    /// Only records of this kind, as in type=regular, id=x or until=24h; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
    /// What each pod may always keep
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, visible_alias = "keep-storage")]
    pub(super) reserved_space: Option<i64>,
    /// What each pod may keep at most
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(super) max_used_space: Option<i64>,
    /// What is to be free on each pod's disk afterwards
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(super) min_free_space: Option<i64>,
    /// Do not ask first
    #[arg(long, short)]
    pub(super) force: bool,
    /// All that is known of each record
    #[arg(long)]
    pub(super) verbose: bool,
    /// How long the status may take to load, for buildx's own `--timeout`.
    #[arg(skip)]
    pub(super) limit: Option<Duration>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let filters = CacheFilters::parse(&args.filter)?;
    let request = PruneRequest {
        filter: filters.wanted(),
        all: args.all,
        keep_duration: filters.unused_for(),
        reserved_space: args.reserved_space.unwrap_or(0),
        max_used_space: args.max_used_space.unwrap_or(0),
        min_free_space: args.min_free_space.unwrap_or(0),
    };
    let (builder, nodes) = within(args.limit, buildkit::connect(context, args.builder.given())).await?;
    if !args.force && !confirmed(&builder.name, args.all)? {
        context.info("nothing was removed");
        return Ok(());
    }
    let (records, mut removed) = mpsc::channel(64);
    let pruning: FuturesUnordered<_> =
        nodes.iter().map(|node| prune(context, node, request.clone(), records.clone())).collect();
    drop(records);
    let printing = async {
        let mut printed = Printed::new(context.format, args.verbose);
        while let Some(found) = removed.recv().await {
            printed.show(&found)?;
        }
        printed.end()
    };
    // Every node is pruned although one fails, and what was removed is told in any case.
    let (failures, printed) = tokio::join!(pruning.filter_map(async |ended| ended.err()).collect::<Vec<_>>(), printing);
    printed?;
    let mut failures = failures.into_iter();
    let first = failures.next();
    failures.for_each(|failure| context.failed(&failure));
    first.map_or(Ok(()), Err)
}

async fn prune(
    context: &Context,
    node: &NodeApi,
    request: PruneRequest,
    records: mpsc::Sender<Found>,
) -> Result<(), Failure> {
    let doing = |failure: Failure| failure.doing(format!("prune node {}", node.node()));
    let stream = node.control().prune(request).await;
    let mut stream = stream.map_err(Failure::refused).map_err(doing)?.into_inner();
    while let Some(record) = buildkit::next::<UsageRecord>(context, &mut stream).await.map_err(doing)? {
        if records.send(Found { node: node.node().to_owned(), record }).await.is_err() {
            // Printing has failed, which is told.
            break;
        }
    }
    Ok(())
}

/// Asks whoever sits at the terminal.
fn confirmed(builder: &str, all: bool) -> Result<bool, Failure> {
    let what = if all { "all build cache" } else { "unused build cache" };
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!("removing {what} of builder {builder} has to be confirmed"))
            .hint("there is no terminal to ask at: give --force"));
    }
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "Remove {what} of builder {builder} from all of its pods? [y/N] ");
    asked.and_then(|()| stderr.flush()).map_err(Failure::output)?;
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::other(format!("failed to read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What was removed, as it is removed.
#[derive(Debug)]
struct Printed {
    format: Format,
    verbose: bool,
    count: usize,
    total: i64,
}

impl Printed {
    fn new(format: Format, verbose: bool) -> Self {
        Self { format, verbose, count: 0, total: 0 }
    }

    fn show(&mut self, found: &Found) -> Result<(), Failure> {
        self.count += 1;
        self.total += found.record.size;
        let now = SystemTime::now();
        match self.format {
            Format::Json => print(json_line(&found.view(now))?),
            Format::Text => print(self.text(found, now)),
        }
    }

    fn text(&self, found: &Found, now: SystemTime) -> String {
        if self.verbose {
            let lines: Vec<Vec<String>> =
                found.lines(now).into_iter().map(|(name, value)| vec![format!("{name}:"), value]).collect();
            return tabbed(&lines) + "\n";
        }
        let header = if self.count == 1 { row(HEADER) } else { String::new() };
        header + &row(found.cells(now).each_ref().map(String::as_str))
    }

    fn end(&self) -> Result<(), Failure> {
        match self.format {
            Format::Json => Ok(()),
            Format::Text => print(tabbed(&[vec!["Total:".to_owned(), units::size(self.total)]])),
        }
    }
}

/// Columns of a fixed width: the next record is not known yet.
fn row([id, reclaimable, size, last]: [&str; 4]) -> String {
    format!("{id:<40} {reclaimable:<11} {size:<10} {last}").trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_as_they_go() {
        let found = |id: &str, size| Found {
            node: "kube0".into(),
            record: UsageRecord { id: id.into(), size, ..UsageRecord::default() },
        };
        let mut printed = Printed::new(Format::Text, false);
        printed.count = 1;
        assert_eq!(
            printed.text(&found("k2j6h5g4f3d2s1a0k2j6h5g4f", 8_192), SystemTime::UNIX_EPOCH),
            "ID                                       RECLAIMABLE SIZE       LAST ACCESSED\n\
             k2j6h5g4f3d2s1a0k2j6h5g4f                true        8.192kB\n"
        );
        printed.count = 2;
        let second = printed.text(&found("b", 1), SystemTime::UNIX_EPOCH);
        assert_eq!(second, "b                                        true        1B\n");
    }
}
