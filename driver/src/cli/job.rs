//! `buildfleet job`: builds in the cluster, each as a Job that lives without this machine.

use self::args::{OneArgs, RunArgs, View};
use super::Context;
use super::failure::Failure;
use crate::cli::objects::Cluster;

mod args;
mod arguments;
mod context;
mod credentials;
mod follow;
mod images;
mod logs;
mod ls;
mod one;
mod rm;
mod run;
mod screen;
mod secrets;
mod show;
mod source;
mod steps;
mod theirs;

/// Build in the cluster, as a Job that lives without this machine
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build a directory, a URL or an archive in a Job, and follow it to its end
    ///
    /// Ctrl-C cancels the Job; a second one leaves at once. The exit code is that of the build.
    Run(Box<RunArgs>),
    Ls(ls::Args),
    /// Print a Job's output, and nothing else
    Logs(logs::Args),
    /// Wait for a Job's end, and take its exit code
    Wait(OneArgs),
    /// Follow a Job to its end as `run` does, from its beginning
    Attach {
        #[command(flatten)]
        one: OneArgs,
        #[command(flatten)]
        view: View,
    },
    /// Stop Jobs that are not over, with all that they have in the cluster
    Cancel(ManyArgs),
    /// Remove Jobs that are over; with --force, any
    Rm {
        #[command(flatten)]
        many: ManyArgs,
        /// Remove also those that are not over
        #[arg(long, short)]
        force: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ManyArgs {
    /// The Jobs' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    cluster: Cluster,
}

impl Args {
    /// Whether its output can be made of fields.
    pub(super) fn lists(&self) -> bool {
        matches!(self.command, Command::Ls(_))
    }
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.command {
        Command::Run(args) => run::run(*args, context).await,
        Command::Ls(args) => ls::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Wait(one) => one::wait(one, context).await,
        Command::Attach { one, view } => one::attach(one, view, context).await,
        Command::Cancel(ManyArgs { names, cluster }) => rm::cancel(names, &cluster, context).await,
        Command::Rm { many: ManyArgs { names, cluster }, force } => rm::rm(names, &cluster, force, context).await,
    }
}
