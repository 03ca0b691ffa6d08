//! The process between the daemon and `buildkitd`: it asks the kernel to be killed with the daemon, then becomes `buildkitd`.
//!
//! A daemon that dies by `kill -9` can't take its children down, and only the child itself may ask for its parent-death
//! signal. So the daemon runs its own program again as `buildfleet supervise-child --parent PID -- PROGRAM ARGS…`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// The hidden subcommand; `main` hands the arguments after it to [`exec_from_arguments`].
pub const SUBCOMMAND: &str = "supervise-child";

/// Why the program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("usage: {SUBCOMMAND} --parent PID -- PROGRAM [ARGS…]")]
    Usage,
    #[error("failed to ask for a signal at the end of the parent")]
    DeathSignal(#[source] nix::Error),
    #[error("the parent, process {0}, has ended already")]
    Orphaned(Pid),
    #[error("failed to run {}", program.display())]
    Exec {
        program: OsString,
        #[source]
        source: io::Error,
    },
}

/// [`exec_with_parent_death_signal`] from the words after `supervise-child`. Returns only when it failed.
pub fn exec_from_arguments(arguments: impl IntoIterator<Item = OsString>) -> ChildError {
    match parse(arguments) {
        Some((parent, program, arguments)) => exec_with_parent_death_signal(parent, &program, &arguments),
        None => ChildError::Usage,
    }
}

/// Becomes `program`, which the kernel kills when the thread of `parent` that spawned this process ends. Returns only
/// when it failed.
pub fn exec_with_parent_death_signal(parent: Pid, program: &OsStr, arguments: &[OsString]) -> ChildError {
    // SIGKILL, because nobody would be left to follow a SIGTERM up.
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return ChildError::DeathSignal(error);
    }
    // The parent may have died before the kernel knew what was asked for: then nothing will ever come.
    if getppid() != parent {
        return ChildError::Orphaned(parent);
    }
    let source = Command::new(program).args(arguments).exec();
    ChildError::Exec { program: program.to_owned(), source }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<(Pid, OsString, Vec<OsString>)> {
    let mut words = arguments.into_iter();
    if words.next()? != "--parent" {
        return None;
    }
    let parent: i32 = words.next()?.to_str()?.parse().ok()?;
    if parent <= 0 || words.next()? != "--" {
        return None;
    }
    Some((Pid::from_raw(parent), words.next()?, words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn arguments_are_the_parent_and_a_program_with_its_own() {
        assert_eq!(
            parse(words("--parent 7 -- buildkitd --root /x")),
            Some((Pid::from_raw(7), "buildkitd".into(), words("--root /x")))
        );
        for wrong in
            ["", "--parent", "--parent 7", "--parent 7 --", "--parent x -- a", "--parent 0 -- a", "7 -- a", "-- a"]
        {
            assert_eq!(parse(words(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn an_orphan_runs_nothing() {
        let not_the_parent = Pid::from_raw(i32::MAX);
        let error = exec_with_parent_death_signal(not_the_parent, OsStr::new("/bin/true"), &[]);
        assert!(matches!(error, ChildError::Orphaned(_)), "{error}");
        prctl::set_pdeathsig(None).unwrap();
    }
}
