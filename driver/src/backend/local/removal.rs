//! Removes what a node's `buildkitd` processes have left on disk.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::command;

/// Mounts and files of a process that was killed may go a moment after it.
const BUSY: Duration = Duration::from_secs(3);

/// How long rootlesskit may take to remove a large cache.
const BY_ROOTLESSKIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(50);

/// Why a state directory is still there.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemovalError {
    #[error("failed to remove it")]
    Remove(#[source] io::Error),
    #[error("it holds files of other users' ids, and rootlesskit, which could remove them, was not found")]
    NoRootlesskit,
    #[error("failed to run rootlesskit")]
    Rootlesskit(#[source] io::Error),
    #[error("rootlesskit did not remove it in {} s", BY_ROOTLESSKIT.as_secs())]
    TimedOut,
    #[error("rootlesskit did not remove it: {0}")]
    NotRemoved(std::process::ExitStatus),
}

/// Removes a directory; that there is none is success. Blocks, bounded but for the file system.
pub(super) fn remove(directory: &Path, rootlesskit: Option<&Path>) -> Result<(), RemovalError> {
    let until = Instant::now() + BUSY;
    loop {
        let error = match std::fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::NotFound if !directory.exists() => return Ok(()),
            // Images hold files of many ids, which belong to the ids of the user namespace here.
            io::ErrorKind::PermissionDenied => break,
            io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
                if Instant::now() < until =>
            {
                std::thread::sleep(POLL);
            }
            _ => return Err(RemovalError::Remove(error)),
        }
    }
    by_rootlesskit(directory, rootlesskit.ok_or(RemovalError::NoRootlesskit)?)
}

fn by_rootlesskit(directory: &Path, rootlesskit: &Path) -> Result<(), RemovalError> {
    let line = command::removal(rootlesskit, directory);
    let mut command = Command::new(rootlesskit);
    command.args(&line[1..]).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.process_group(0).spawn().map_err(RemovalError::Rootlesskit)?;
    let until = Instant::now() + BY_ROOTLESSKIT;
    loop {
        match child.try_wait().map_err(RemovalError::Rootlesskit)? {
            // The directory itself is ours, and its parent may not be: what counts is that it is gone.
            Some(_) if !directory.exists() => return Ok(()),
            Some(status) => return Err(RemovalError::NotRemoved(status)),
            None if Instant::now() < until => std::thread::sleep(POLL),
            None => {
                let _ = killpg(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)), Signal::SIGKILL);
                let _ = child.wait();
                return Err(RemovalError::TimedOut);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_removed_and_none_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("lap");
        std::fs::create_dir_all(state.join("0/root")).unwrap();
        remove(&state, None).unwrap();
        assert!(!state.exists());
        remove(&state, None).unwrap();
    }

    #[test]
    fn what_is_no_directory_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(remove(&file.join("below"), None), Ok(()) | Err(RemovalError::Remove(_))));
        assert!(file.exists());
    }

    #[test]
    fn rootlesskit_is_given_the_directory_and_has_to_remove_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("lap");
        std::fs::create_dir(&state).unwrap();
        assert!(matches!(by_rootlesskit(&state, Path::new("/bin/false")), Err(RemovalError::NotRemoved(_))));
        assert!(matches!(by_rootlesskit(&state, Path::new("/no/such")), Err(RemovalError::Rootlesskit(_))));
        // `env rm -rf -- DIRECTORY` does what rootlesskit does, as ourselves.
        by_rootlesskit(&state, Path::new("/usr/bin/env")).unwrap();
        assert!(!state.exists());
    }
}
