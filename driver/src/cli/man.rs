//! `buildfleet man`: a manual page for each command.

use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::failure::Failure;
use super::output::say;

/// Write the manual pages, one for each command, into a directory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    dir: PathBuf,
}

pub(super) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let dir = args.dir.display();
    write(&args.dir).map_err(|error| Failure::other(error.to_string()).doing(format!("write pages into {dir}")))?;
    if !quiet {
        say(&format!("info: `man -l {dir}/buildfleet.1` shows the first page"));
    }
    Ok(())
}

fn write(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(super::Cli::command(), dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let dir = tempfile::tempdir().expect("a directory");
        write(&dir.path().join("man1")).expect("it is ours");
        let mut command = super::super::Cli::command();
        command.build();
        let mut wanted = vec!["buildfleet".to_owned(), "buildfleet-history-export".to_owned()];
        let own = command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set());
        wanted.extend(own.map(|below| format!("buildfleet-{}", below.get_name())));
        assert!(wanted.len() > 20, "{wanted:?}");
        for name in wanted {
            let page = std::fs::read_to_string(dir.path().join(format!("man1/{name}.1"))).expect(&name);
            assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH NAME"), "{name}: {page}");
        }
    }
}
