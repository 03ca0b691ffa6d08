//! `buildfleet completion`: scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::failure::Failure;
use super::output::print;

/// Print a script that completes this program's commands in a shell
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "buildfleet", &mut script);
    print(script)
}
