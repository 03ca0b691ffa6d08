//! `buildfleet history rm`: removes the records of builds.

use std::collections::BTreeSet;

use buildfleet_proto::buildkit::UpdateBuildHistoryRequest;
use futures::future::join_all;

use super::find::{Record, of_build, records};
use crate::cli::Context;
use crate::cli::buildkit::{self, NodeApi};
use crate::cli::failure::Failure;
use crate::cli::json::Done;
use crate::cli::output::{Format, json_line, print};

/// Remove the records of builds, on every node that has them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_name = "BUILD", required_unless_present = "all")]
    builds: Vec<String>,
    /// All builds that are over
    #[arg(long, conflicts_with = "builds")]
    all: bool,
}

pub(super) async fn run(args: Args, builder: Option<String>, context: &Context) -> Result<(), Failure> {
    let (builder, nodes) = buildkit::connect(context, builder).await?;
    let records = records(context, &nodes, &[]).await?;
    let (mut chosen, mut failures) = (Vec::new(), Vec::new());
    if args.all {
        chosen = records.iter().filter(|record| record.is_over()).cloned().collect();
    }
    for build in &args.builds {
        match of_build(&records, &builder.name, Some(build)) {
            Ok(found) => chosen.extend(found),
            Err(failure) => failures.push(failure.doing(format!("remove the record of build {build}"))),
        }
    }
    // Two beginnings may mean the same build.
    let mut seen = BTreeSet::new();
    chosen.retain(|record| seen.insert((record.at, record.told.r#ref.clone())));
    let removed = join_all(chosen.iter().map(|record| remove(context, &nodes, record))).await;
    let mut names = BTreeSet::new();
    for (record, removed) in chosen.iter().zip(removed) {
        match removed {
            Ok(()) => {
                names.insert(record.told.r#ref.as_str());
            }
            Err(failure) => failures.push(failure),
        }
    }
    for name in names {
        match context.format {
            Format::Text => context.said(&format!("{name} removed")),
            Format::Json => print(json_line(&Done { name, result: "removed" })?)?,
        }
    }
    let mut failures = failures.into_iter();
    let first = failures.next();
    failures.for_each(|failure| context.failed(&failure));
    first.map_or(Ok(()), Err)
}

async fn remove(context: &Context, nodes: &[NodeApi], record: &Record) -> Result<(), Failure> {
    let r#ref = record.told.r#ref.clone();
    let doing = format!("remove the record of build {ref} on node {}", record.node);
    let request = UpdateBuildHistoryRequest { r#ref, delete: true, ..UpdateBuildHistoryRequest::default() };
    let mut control = nodes[record.at].control();
    let answer = buildkit::asked(context, control.update_build_history(request)).await;
    answer.map(drop).map_err(|failure| failure.doing(doing))
}
