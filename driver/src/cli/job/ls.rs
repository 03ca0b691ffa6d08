//! `buildfleet job ls`: the builds that are Jobs, those that run and those that are over.

use std::time::SystemTime;

use buildfleet_proto::fleet::{Job, JobState, ListJobsRequest};
use serde::Serialize;

use super::one::place;
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::fields::{Column, Row};
use crate::cli::objects::Cluster;
use crate::cli::output::{Format, json_line, json_value, print};
use crate::cli::table::columns;
use crate::cli::units;

/// List the builds that are Jobs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// Of all namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let place = place("", &args.cluster, context)?;
    let request = ListJobsRequest { place: Some(place), all_namespaces: args.all_namespaces };
    let mut jobs = context.client().await?.list_jobs(request).await?;
    // The newest first, as `docker buildx history ls`.
    jobs.sort_by(|a, b| {
        let at = |job: &Job| job.created.map(|at| (at.seconds, at.nanos));
        at(b).cmp(&at(a)).then_with(|| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)))
    });
    let rows = rows(&jobs, SystemTime::now())?;
    if let Some(fields) = &context.fields {
        return print(fields.render(&COLUMNS, &rows)?);
    }
    if context.format == Format::Json {
        let lines: Result<String, Failure> = jobs.into_iter().map(|job| json_line(&JobView::from(job))).collect();
        return print(lines?);
    }
    print(table(&rows, args.all_namespaces))
}

const COLUMNS: [Column; 9] = [
    Column { name: "Name", header: "NAME" },
    Column { name: "Namespace", header: "NAMESPACE" },
    Column { name: "Status", header: "STATUS" },
    Column { name: "CreatedAt", header: "CREATED AT" },
    Column { name: "Duration", header: "DURATION" },
    Column { name: "Title", header: "BUILDS" },
    Column { name: "Pod", header: "POD" },
    Column { name: "Host", header: "HOST" },
    Column { name: "Reason", header: "REASON" },
];

/// As `--format json` has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct JobView {
    name: String,
    namespace: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let status = state(job.state());
        let Job { name, namespace, state: _, created, started, finished, pod, title, host, reason } = job;
        let [created_at, started_at, completed_at] = [created, started, finished].map(|at| at.map(|at| at.to_string()));
        Self { name, namespace, status, created_at, started_at, completed_at, title, pod, host, reason }
    }
}

/// A state's name.
pub(super) fn state(state: JobState) -> &'static str {
    match state {
        JobState::JobUnknown => "unknown",
        JobState::JobPreparing => "preparing",
        JobState::JobWaiting => "waiting",
        JobState::JobRunning => "running",
        JobState::JobSucceeded => "succeeded",
        JobState::JobFailed => "failed",
        JobState::JobCanceled => "canceled",
    }
}

fn rows(jobs: &[Job], now: SystemTime) -> Result<Vec<Row>, Failure> {
    let row = |job: &Job| -> Result<Row, Failure> {
        let created = job.created.map(|at| units::ago(&at, now)).unwrap_or_default();
        let took = job.started.map(|started| match &job.finished {
            Some(finished) => units::between(&started, finished),
            None => now.duration_since(units::time(&started)).unwrap_or_default(),
        });
        let took = took.map(units::took).unwrap_or_default();
        let status = state(job.state());
        let cells = [&job.name, &job.namespace, status, &created, &took, &job.title, &job.pod, &job.host, &job.reason];
        let status = match job.reason.as_str() {
            "" => status.to_owned(),
            reason => format!("{status} ({reason})"),
        };
        let row = Row::new(cells.map(str::to_owned).to_vec(), json_value(&JobView::from(job.clone()))?);
        Ok(row.in_table(&COLUMNS, "Status", status))
    };
    jobs.iter().map(row).collect()
}

/// The namespace only where there are several.
fn table(rows: &[Row], namespaces: bool) -> String {
    let shown: Vec<usize> = if namespaces { vec![1, 0, 2, 3, 4, 5] } else { vec![0, 2, 3, 4, 5] };
    let header = shown.iter().map(|at| COLUMNS[*at].header.to_owned()).collect();
    let cells = |row: &Row| shown.iter().map(|at| row.table_cells()[*at].clone()).collect();
    let all: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(cells)).collect();
    columns(&all, 10, 3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buildfleet_proto::Timestamp;

    use super::*;

    #[test]
    fn jobs_are_told_with_what_became_of_them() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let jobs = [
            Job {
                name: "app".into(),
                namespace: "builds".into(),
                state: JobState::JobFailed.into(),
                created: at(1_000),
                started: at(1_010),
                finished: at(1_073),
                title: "r.example/app".into(),
                reason: "exit code 1".into(),
                ..Job::default()
            },
            Job {
                name: "next".into(),
                namespace: "builds".into(),
                state: JobState::JobWaiting.into(),
                created: at(1_100),
                ..Job::default()
            },
        ];
        let rows = rows(&jobs, SystemTime::UNIX_EPOCH + Duration::from_secs(1_160)).expect("they are JSON");
        assert_eq!(
            table(&rows, false),
            "NAME      STATUS                 CREATED AT           DURATION   BUILDS\n\
             app       failed (exit code 1)   2 minutes ago        1m  3s     r.example/app\n\
             next      waiting                About a minute ago\n"
        );
        assert!(table(&rows, true).starts_with("NAMESPACE   NAME      STATUS"));
        assert_eq!(rows[0].json()["Status"], "failed");
    }
}
