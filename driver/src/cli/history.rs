//! `buildfleet history`: the records of builds on all pods.

use super::Context;
use super::buildkit::NodeApi;
use super::failure::Failure;
use super::top::Running;
use crate::settings::Process;

mod bundle;
mod describe;
mod export;
mod find;
mod inspect;
mod logs;
mod ls;
mod name;
mod plain;
mod rm;

/// Show, export and remove the records of builds; starts no pod
///
/// A build is named by its id, by the beginning of it when no other build begins so, or by ^0 for the latest, ^1 for the
/// one before, and so on.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    #[arg(long, global = true, value_name = "NAME")]
    builder: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
    Logs(logs::Args),
    Inspect(inspect::Args),
    Export(export::Args),
    Rm(rm::Args),
}

impl Args {
    /// Whether its output can be made of fields.
    pub(super) fn lists(&self) -> bool {
        matches!(self.command, Command::Ls(_))
    }
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Args { command, builder } = args;
    match command {
        Command::Ls(args) => ls::run(args, builder, context).await,
        Command::Logs(args) => logs::run(args, builder, context).await,
        Command::Inspect(args) => inspect::run(args, builder, context).await,
        Command::Export(args) => export::run(args, builder, context).await,
        Command::Rm(args) => rm::run(args, builder, context).await,
    }
}

/// The builds that run on these nodes, newest first.
pub(super) async fn running(context: &Context, nodes: &[NodeApi]) -> Result<Vec<Running>, Failure> {
    let store = name::store(&Process);
    let records = find::running(context, nodes).await?;
    let shown = |record: &find::Record| {
        let state = name::local_state(store.as_deref(), record);
        Running {
            build: record.told.r#ref.clone(),
            name: name::name(&record.told.frontend_attrs, state.as_ref()),
            node: record.node.clone(),
            began: record.began(),
        }
    };
    Ok(records.iter().map(shown).collect())
}
