//! `buildfleet history export`: the records of builds as an archive that Docker Desktop and build summaries read.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use buildfleet_proto::buildkit::UpdateBuildHistoryRequest;
use serde_json::Value;

use super::bundle::{Beside, Layout, needed};
use super::find::{Record, of_build, records};
use super::inspect::blob;
use super::name::store;
use crate::cli::Context;
use crate::cli::buildkit::{self, NodeApi};
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::settings::Process;

/// A log or a trace; larger ones are an error.
const BLOB_MAX: usize = 1 << 30;

/// Write the records of builds, with their logs and attestations, as a .dockerbuild archive
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builds; without any, the latest
    #[arg(value_name = "BUILD")]
    builds: Vec<String>,
    /// All builds that are over
    #[arg(long, conflicts_with = "builds")]
    all: bool,
    /// The file to write; without it, stdout when that is no terminal
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Complete the records first: without it, a build that ended just now has no trace yet
    #[arg(long)]
    finalize: bool,
}

pub(super) async fn run(args: Args, builder: Option<String>, context: &Context) -> Result<(), Failure> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is nothing for a terminal").hint("give --output FILE"));
    }
    let (builder, nodes) = buildkit::connect(context, builder).await?;
    let mut chosen = choose(&args, &builder.name, over(context, &nodes).await?)?;
    if args.finalize {
        for record in chosen.iter().filter(|record| record.told.trace.is_none()) {
            finalize(context, &nodes[record.at], record).await?;
        }
        let wanted: BTreeSet<_> = chosen.iter().map(|record| (record.at, record.told.r#ref.clone())).collect();
        chosen = over(context, &nodes).await?;
        chosen.retain(|record| wanted.contains(&(record.at, record.told.r#ref.clone())));
    }
    let store = store(&Process);
    let mut layout = Layout::default();
    for record in &chosen {
        let node = &nodes[record.at];
        let mut blobs = Vec::new();
        for (descriptor, _) in needed(&record.told) {
            blobs.push(blob(context, node, &descriptor.digest, BLOB_MAX).await?);
        }
        let trace = match &record.told.trace {
            Some(trace) => Some(blob(context, node, &trace.digest, BLOB_MAX).await?),
            None => None,
        };
        layout.add(&record.told, blobs, trace.as_deref(), &beside(store.as_deref(), node, record));
    }
    let archive = layout.archive().map_err(|error| Failure::other(error.to_string()).doing("make the archive"))?;
    let Some(path) = &args.output else { return print(archive) };
    write(path, &archive)
        .map_err(|error| Failure::other(error.to_string()).doing(format!("write {}", path.display())))?;
    context.said(&format!("{} has {}", path.display(), counted(&chosen)));
    Ok(())
}

async fn over(context: &Context, nodes: &[NodeApi]) -> Result<Vec<Record>, Failure> {
    let mut records = records(context, nodes, &[]).await?;
    records.retain(Record::is_over);
    Ok(records)
}

fn choose(args: &Args, builder: &str, records: Vec<Record>) -> Result<Vec<Record>, Failure> {
    if args.all && !records.is_empty() {
        return Ok(records);
    }
    if args.builds.is_empty() {
        return of_build(&records, builder, None);
    }
    let mut chosen: Vec<Record> = Vec::new();
    for build in &args.builds {
        for record in of_build(&records, builder, Some(build))? {
            if !chosen.iter().any(|known| known.at == record.at && known.told.r#ref == record.told.r#ref) {
                chosen.push(record);
            }
        }
    }
    Ok(chosen)
}

async fn finalize(context: &Context, node: &NodeApi, record: &Record) -> Result<(), Failure> {
    let r#ref = record.told.r#ref.clone();
    let doing = format!("complete the record of build {ref} on node {}", record.node);
    let request = UpdateBuildHistoryRequest { r#ref, finalize: true, ..UpdateBuildHistoryRequest::default() };
    let mut control = node.control();
    buildkit::asked(context, control.update_build_history(request)).await.map(drop).map_err(|f| f.doing(doing))
}

/// What buildx has written down goes along, whatever it has in it.
fn beside(store: Option<&Path>, node: &NodeApi, record: &Record) -> Beside {
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok();
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(char::is_alphanumeric);
    let refs = store.map(|store| store.join("refs"));
    let id = Some(record.told.r#ref.as_str()).filter(is_name);
    let local_state =
        refs.as_ref().zip(id).and_then(|(refs, id)| read(refs.join(&record.builder).join(&record.node).join(id)));
    let group = local_state.as_ref().and_then(|state| state["GroupRef"].as_str()).filter(is_name);
    let state_group = refs.zip(group).and_then(|(refs, group)| read(refs.join("__group__").join(group)));
    Beside { default_platform: node.default_platform().to_owned(), local_state, state_group }
}

/// A log may hold what only its owner should read.
fn write(path: &Path, archive: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(archive)
}

fn counted(records: &[Record]) -> String {
    let builds: BTreeSet<&str> = records.iter().map(|record| record.told.r#ref.as_str()).collect();
    match builds.len() {
        1 => format!("the record of build {}", builds.into_iter().collect::<String>()),
        count => format!("the records of {count} builds"),
    }
}
