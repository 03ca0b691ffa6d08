//! `buildfleet daemon`.

use std::time::Duration;

use super::failure::Failure;
use crate::daemon::{self, DRAIN, RunOptions};
use crate::report;
use crate::settings::Settings;

/// What the end of aborted child processes may take; a backend's own deadlines are shorter together.
const CHILDREN: Duration = Duration::from_secs(20);

/// Run the daemon in the foreground
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A command started it, and nobody waits for its end
    #[arg(long, hide = true)]
    on_demand: bool,
    /// How many seconds builds may go on after the first SIGTERM; a second one ends them at once
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN.as_secs())]
    drain: u64,
}

pub(super) fn run(args: &Args, settings: Settings) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::other(format!("failed to start the runtime: {error}")))?;
    let options = RunOptions { on_demand: args.on_demand, drain: Duration::from_secs(args.drain) };
    let ended = runtime.block_on(daemon::run(settings, options));
    // An aborted connection may be the last that held a local backend: its drop takes child processes down and their
    // sockets away, on a thread of the runtime.
    runtime.shutdown_timeout(CHILDREN);
    ended.map_err(|error| Failure::other(report::chain(&error)))
}

/// Half of the machine: the other half is for those who send, and on one machine with the pods for those who build. What
/// crosses a connection goes from task to task, which costs least where they share a thread.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}
