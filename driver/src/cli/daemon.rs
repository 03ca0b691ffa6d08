//! `buildfleet daemon`.

use super::failure::Failure;
use crate::settings::Settings;

/// Run the daemon in the foreground
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A command started it, and nobody waits for its end
    #[arg(long, hide = true)]
    on_demand: bool,
}

pub(super) fn run(args: &Args, settings: Settings) -> Result<(), Failure> {
    let _ = (args.on_demand, settings);
    Err(Failure::other("x"))
}
