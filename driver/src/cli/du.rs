//! `buildfleet du`: the cache records of all pods.

use std::time::{Duration, SystemTime};

use buildfleet_proto::buildkit::{DiskUsageRequest, UsageRecord};
use futures::future::try_join_all;
use serde::Serialize;

use super::buildkit::{self, Chosen};
use super::client::within;
use super::failure::Failure;
use super::fields::{Column, Row};
use super::filter::CacheFilters;
use super::output::{Format, json_line, json_value, print};
use super::table::{columns, tabbed};
use super::{Context, units};

/// Show what the build caches of all pods hold; starts no pod
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) builder: Chosen,
    /// Only records of this kind, as in type=regular, id=x or until=24h; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
    /// All that is known of each record
    #[arg(long)]
    pub(super) verbose: bool,
    /// How long the status may take to load, for buildx's own `--timeout`.
    #[arg(skip)]
    pub(super) limit: Option<Duration>,
}

/// As `docker buildx du --format json` has it, and three fields of our own.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordView<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    parents: &'a [String],
    created_at: String,
    mutable: bool,
    reclaimable: bool,
    shared: bool,
    size: String,
    bytes: i64,
    description: &'a str,
    usage_count: i64,
    last_used_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    r#type: &'a str,
    node: &'a str,
}

pub(super) const COLUMNS: [Column; 12] = [
    Column { name: "ID", header: "ID" },
    Column { name: "Parents", header: "PARENTS" },
    Column { name: "CreatedAt", header: "CREATED AT" },
    Column { name: "Mutable", header: "MUTABLE" },
    Column { name: "Reclaimable", header: "RECLAIMABLE" },
    Column { name: "Shared", header: "SHARED" },
    Column { name: "Size", header: "SIZE" },
    Column { name: "Description", header: "DESCRIPTION" },
    Column { name: "UsageCount", header: "USAGE COUNT" },
    Column { name: "LastUsedAt", header: "LAST ACCESSED" },
    Column { name: "Type", header: "TYPE" },
    Column { name: "Node", header: "NODE" },
];

/// A record and the node that has it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) node: String,
    pub(super) record: UsageRecord,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.verbose && context.fields.is_some() {
        return Err(Failure::usage("--format and --verbose cannot be used together"));
    }
    let filters = CacheFilters::parse(&args.filter)?;
    let (builder, nodes) = within(args.limit, buildkit::connect(context, args.builder.given())).await?;
    let asking = nodes.iter().map(|node| async {
        let mut control = node.control();
        let request = DiskUsageRequest { filter: filters.wanted(), age_limit: filters.unused_for() };
        let answer = buildkit::asked(context, control.disk_usage(request)).await;
        let answer = answer.map_err(|failure| failure.doing(format!("ask node {} for its disk usage", node.node())))?;
        Ok::<_, Failure>(answer.record.into_iter().map(|record| Found { node: node.node().to_owned(), record }))
    });
    let found: Vec<Found> = try_join_all(asking).await?.into_iter().flatten().collect();
    let now = SystemTime::now();
    if let Some(fields) = &context.fields {
        let rows = found.iter().map(|found| found.row(now)).collect::<Result<Vec<_>, _>>()?;
        return print(fields.render(&COLUMNS, &rows)?);
    }
    if context.format == Format::Json {
        let lines: Result<String, Failure> = found.iter().map(|found| json_line(&found.view(now))).collect();
        return print(lines?);
    }
    let listed = if args.verbose { verbose(&found, now) } else { table(&found, now) };
    let summary = if args.filter.is_empty() { summary(&found) } else { String::new() };
    print(listed + &summary)?;
    if found.is_empty() && builder.nodes.iter().all(|node| node.pods.is_empty()) {
        context.info(&format!("no pod of builder {} runs, and none was started", builder.name));
    }
    Ok(())
}

impl Found {
    pub(super) fn view(&self, now: SystemTime) -> RecordView<'_> {
        let record = &self.record;
        RecordView {
            id: &record.id,
            parents: &record.parents,
            created_at: units::go_time(&record.created_at.unwrap_or_default()),
            mutable: record.mutable,
            reclaimable: !record.in_use,
            shared: record.shared,
            size: units::size(record.size),
            bytes: record.size,
            description: &record.description,
            usage_count: record.usage_count,
            last_used_at: self.last_used(now),
            last_used: record.last_used_at.map(|at| at.to_string()),
            r#type: &record.record_type,
            node: &self.node,
        }
    }

    fn last_used(&self, now: SystemTime) -> String {
        self.record.last_used_at.map(|at| units::ago(&at, now)).unwrap_or_default()
    }

    fn row(&self, now: SystemTime) -> Result<Row, Failure> {
        let view = self.view(now);
        let cells = vec![
            view.id.to_owned(),
            view.parents.join(", "),
            view.created_at.clone(),
            view.mutable.to_string(),
            view.reclaimable.to_string(),
            view.shared.to_string(),
            view.size.clone(),
            view.description.to_owned(),
            view.usage_count.to_string(),
            view.last_used_at.clone(),
            view.r#type.to_owned(),
            view.node.to_owned(),
        ];
        let [id, _, size, _] = self.cells(now);
        let row = Row::new(cells, json_value(&view)?);
        Ok(row.in_table(&COLUMNS, "ID", id).in_table(&COLUMNS, "Size", size))
    }

    /// Docker marks what changes, and what other records share.
    pub(super) fn cells(&self, now: SystemTime) -> [String; 4] {
        let record = &self.record;
        let mark = |mark: bool| if mark { "*" } else { "" };
        [
            format!("{}{}", record.id, mark(record.mutable)),
            (!record.in_use).to_string(),
            format!("{}{}", units::size(record.size), mark(record.shared)),
            self.last_used(now),
        ]
    }

    /// Names and values.
    pub(super) fn lines(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        let record = &self.record;
        let mut lines = vec![("ID", record.id.clone())];
        if !record.parents.is_empty() {
            lines.push(("Parents", record.parents.join(", ")));
        }
        lines.extend([
            ("Created at", units::go_time(&record.created_at.unwrap_or_default())),
            ("Mutable", record.mutable.to_string()),
            ("Reclaimable", (!record.in_use).to_string()),
            ("Shared", record.shared.to_string()),
            ("Size", units::size(record.size)),
        ]);
        if !record.description.is_empty() {
            lines.push(("Description", record.description.clone()));
        }
        lines.push(("Usage count", record.usage_count.to_string()));
        if record.last_used_at.is_some() {
            lines.push(("Last used", self.last_used(now)));
        }
        if !record.record_type.is_empty() {
            lines.push(("Type", record.record_type.clone()));
        }
        lines
    }
}

pub(super) const HEADER: [&str; 4] = ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"];

fn table(found: &[Found], now: SystemTime) -> String {
    let header = HEADER.map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(header).chain(found.iter().map(|found| found.cells(now).to_vec())).collect();
    columns(&rows, 10, 3)
}

fn verbose(found: &[Found], now: SystemTime) -> String {
    let block = |found: &Found| {
        let lines = found.lines(now).into_iter().flat_map(|(name, value)| match name {
            "Parents" => {
                let parents = value.split(", ").map(|parent| format!(" - {parent}\n"));
                std::iter::once("Parents:\n".to_owned()).chain(parents).collect::<Vec<_>>()
            }
            name => vec![format!("{:<13} {}\n", format!("{name}:"), super::table::printable(&value))],
        });
        lines.collect::<String>() + "\n"
    };
    found.iter().map(block).collect()
}

/// What could be freed, and what there is.
fn summary(found: &[Found]) -> String {
    let sum = |which: &dyn Fn(&UsageRecord) -> bool| -> i64 {
        found.iter().map(|found| &found.record).filter(|record| record.size > 0 && which(record)).map(|r| r.size).sum()
    };
    let (total, shared) = (sum(&|_| true), sum(&|record| record.shared));
    let line = |name: &str, bytes| vec![name.to_owned(), units::size(bytes)];
    let mut lines = Vec::new();
    if shared > 0 {
        lines.extend([line("Shared:", shared), line("Private:", total - shared)]);
    }
    lines.extend([line("Reclaimable:", sum(&|record| !record.in_use)), line("Total:", total)]);
    tabbed(&lines)
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::Timestamp;

    use super::*;

    fn found() -> Vec<Found> {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let record = |id: &str, size| UsageRecord {
            id: id.into(),
            size,
            created_at: at(1_795_259_773),
            record_type: "regular".into(),
            ..UsageRecord::default()
        };
        let mine = |record| Found { node: "kube0".into(), record };
        vec![
            mine(UsageRecord { last_used_at: at(1_795_259_773), usage_count: 2, ..record("a", 1_234_567) }),
            mine(UsageRecord {
                mutable: true,
                in_use: true,
                shared: true,
                parents: vec!["a".into(), "x".into()],
                description: "local source\nfor context".into(),
                ..record("k2j6h5g4f3d2s1a0k2j6h5g4f", 8_192)
            }),
        ]
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_259_773 + 7_200)
    }

    #[test]
    fn the_table_and_its_summary_are_buildx_s() {
        let text = table(&found(), now()) + &summary(&found());
        assert_eq!(text, include_str!("../../../testdata/cli/du.txt"));
        assert_eq!(summary(&found()[..1]), "Reclaimable:\t1.235MB\nTotal:\t\t1.235MB\n");
        assert_eq!(summary(&[]), "Reclaimable:\t0B\nTotal:\t\t0B\n");
    }

    #[test]
    fn all_that_is_known_of_a_record() {
        assert_eq!(verbose(&found(), now()), include_str!("../../../testdata/cli/du-verbose.txt"));
    }

    #[test]
    fn json_has_buildx_s_names_and_our_own() {
        let lines: String = found().iter().map(|found| json_line(&found.view(now())).expect("it is JSON")).collect();
        assert_eq!(lines, include_str!("../../../testdata/cli/du.json"));
    }

    #[test]
    fn every_column_has_its_cell() {
        for found in found() {
            let row = found.row(now()).expect("it is JSON");
            assert_eq!(row.cells().len(), COLUMNS.len());
            for (column, cell) in COLUMNS.iter().zip(row.cells()) {
                let json = &row.json()[column.name];
                let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
                assert!(text == *cell || column.name == "Parents", "{}: {text} and {cell}", column.name);
            }
        }
    }
}
