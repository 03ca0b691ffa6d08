//! `buildfleet history ls`: the builds that pods remember.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::find::{Record, records};
use super::name::{local_state, name, store};
use crate::cli::failure::Failure;
use crate::cli::fields::{Column, Row};
use crate::cli::output::{Format, json_line, json_value, print};
use crate::cli::table::columns;
use crate::cli::{Context, buildkit, filter, units};
use crate::settings::Process;

/// As long as a name may be in a table.
const NAME_MAX: usize = 36;

/// List the builds that run, and those that pods remember
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only builds of this kind, as in status=error, ref=x, repository=x, startedAt>=24h or duration<5m; may be repeated
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Whole names
    #[arg(long)]
    no_trunc: bool,
}

/// As `docker buildx history ls --format json` has it.
#[derive(Debug, Serialize)]
struct BuildView {
    r#ref: String,
    name: String,
    status: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    total_steps: i32,
    completed_steps: i32,
    cached_steps: i32,
}

const COLUMNS: [Column; 6] = [
    Column { name: "Ref", header: "BUILD ID" },
    Column { name: "Name", header: "NAME" },
    Column { name: "Status", header: "STATUS" },
    Column { name: "CreatedAt", header: "CREATED AT" },
    Column { name: "Duration", header: "DURATION" },
    Column { name: "Node", header: "NODE" },
];

/// How many of them the table for people has.
const SHOWN: usize = 5;

pub(super) async fn run(args: Args, builder: Option<String>, context: &Context) -> Result<(), Failure> {
    let filter = filter::history(&args.filter)?;
    let (builder, nodes) = buildkit::connect(context, builder).await?;
    let mut records = records(context, &nodes, &filter).await?;
    // What runs comes first.
    records.sort_by_key(Record::is_over);
    let store = store(&Process);
    let names: HashMap<String, String> = records
        .iter()
        .map(|record| {
            let state = local_state(store.as_deref(), record);
            (record.full_ref(), name(&record.told.frontend_attrs, state.as_ref()))
        })
        .collect();
    let name_of = |record: &Record| names.get(&record.full_ref()).cloned().unwrap_or_default();
    let now = SystemTime::now();
    if let Some(fields) = &context.fields {
        let rows = records.iter().map(|record| {
            let name = name_of(record);
            let shown = if args.no_trunc { name.clone() } else { shortened(&name) };
            Ok(row(record, name, now)?.in_table(&COLUMNS, "Name", shown))
        });
        let rows = rows.collect::<Result<Vec<_>, Failure>>()?;
        return print(fields.render(&COLUMNS, &rows)?);
    }
    if context.format == Format::Json {
        let lines: Result<String, Failure> =
            records.iter().map(|record| json_line(&view(record, name_of(record)))).collect();
        return print(lines?);
    }
    let of_table = |record: &Record| {
        let name = name_of(record);
        let name = if args.no_trunc { name } else { shortened(&name) };
        cells(record, name, now)[..SHOWN].to_vec()
    };
    let header = COLUMNS[..SHOWN].iter().map(|column| column.header.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(records.iter().map(of_table)).collect();
    print(columns(&rows, 10, 3))?;
    if records.is_empty() && builder.nodes.iter().all(|node| node.pods.is_empty()) {
        context.info(&format!("no pod of builder {} runs, and none was started", builder.name));
    }
    Ok(())
}

fn view(record: &Record, name: String) -> BuildView {
    let told = &record.told;
    BuildView {
        r#ref: record.full_ref(),
        name,
        status: status(record),
        created_at: told.created_at.unwrap_or_default().to_string(),
        completed_at: told.completed_at.map(|at| at.to_string()),
        total_steps: told.num_total_steps,
        completed_steps: told.num_completed_steps,
        cached_steps: told.num_cached_steps,
    }
}

fn cells(record: &Record, name: String, now: SystemTime) -> Vec<String> {
    let told = &record.told;
    let created = told.created_at.map(|at| units::ago(&at, now)).unwrap_or_default();
    vec![told.r#ref.clone(), name, status(record).to_owned(), created, duration(record, now), record.node.clone()]
}

fn row(record: &Record, name: String, now: SystemTime) -> Result<Row, Failure> {
    let json = json_value(&view(record, name.clone()))?;
    Ok(Row::new(cells(record, name, now), json))
}

fn status(record: &Record) -> &'static str {
    match (record.is_over(), &record.told.error) {
        (false, _) => "Running",
        (true, None) => "Completed",
        (true, Some(_)) => "Error",
    }
}

/// With a `+` while it grows.
fn duration(record: &Record, now: SystemTime) -> String {
    let Some(created) = &record.told.created_at else { return String::new() };
    match &record.told.completed_at {
        Some(completed) => units::took(units::between(created, completed)),
        None => {
            let so_far: Duration = now.duration_since(units::time(created)).unwrap_or_default();
            format!("{}+", units::took(so_far))
        }
    }
}

/// The end of a long name tells more than its beginning.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= NAME_MAX {
        return name.to_owned();
    }
    let end: String = name.chars().skip(count - NAME_MAX + 2).collect();
    format!("..{end}")
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::Timestamp;
    use buildfleet_proto::buildkit::{BuildHistoryRecord, RpcStatus};

    use super::super::find::tests::record;
    use super::*;

    fn told(completed: Option<i64>, error: bool) -> BuildHistoryRecord {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        BuildHistoryRecord {
            created_at: Some(at(1000)),
            completed_at: completed.map(at),
            error: error.then(RpcStatus::default),
            num_total_steps: 4,
            num_completed_steps: 3,
            num_cached_steps: 2,
            ..BuildHistoryRecord::default()
        }
    }

    #[test]
    fn a_build_runs_is_completed_or_failed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1125);
        for (told, status, duration) in [
            (told(None, false), "Running", "2m  5s+"),
            (told(Some(1003), false), "Completed", "3.0s"),
            (told(Some(1003), true), "Error", "3.0s"),
        ] {
            let record = record("abc", "kube0", told);
            let wanted = ["abc", "app", status, "2 minutes ago", duration, "kube0"];
            assert_eq!(cells(&record, "app".into(), now), wanted);
            assert_eq!(row(&record, "app".into(), now).expect("it is JSON").cells().len(), COLUMNS.len());
        }
    }

    #[test]
    fn json_is_buildx_s() {
        let line = json_line(&view(&record("abc", "kube0", told(Some(1003), false)), "app".into()));
        assert_eq!(
            line.expect("it is JSON"),
            "{\"ref\":\"kube/kube0/abc\",\"name\":\"app\",\"status\":\"Completed\",\
             \"created_at\":\"1970-01-01T00:16:40Z\",\"completed_at\":\"1970-01-01T00:16:43Z\",\
             \"total_steps\":4,\"completed_steps\":3,\"cached_steps\":2}\n"
        );
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("short"), "short");
        let long = format!("{}the-end", "x".repeat(60));
        assert_eq!(shortened(&long).chars().count(), NAME_MAX);
        assert!(shortened(&long).starts_with("..x") && shortened(&long).ends_with("the-end"));
    }
}
