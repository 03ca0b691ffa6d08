//! Directories that nobody else can enter.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a directory cannot hold private files.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("failed to make directory {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("directory {} belongs to uid {owner}, not to uid {own}", path.display())]
    Foreign { path: PathBuf, owner: u32, own: u32 },
    #[error("directory {} has mode {mode:04o}: other users can enter it, it has to be 0700", path.display())]
    Open { path: PathBuf, mode: u32 },
}

/// Makes `path` with mode 0700, or checks that it is this user's own and closed to others.
///
/// # Errors
/// When it cannot be made or is not private.
pub fn private_directory(path: &Path) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Make { path: path.to_owned(), source };
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(DirectoryError::NotADirectory(path.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    }
    let own = owner();
    // A link may be followed when it is ours; somebody else's could lead elsewhere after the check.
    let link = fs::symlink_metadata(path).map_err(failed)?;
    let directory = fs::metadata(path).map_err(failed)?;
    for meta in [&link, &directory] {
        if meta.uid() != own {
            return Err(DirectoryError::Foreign { path: path.to_owned(), owner: meta.uid(), own });
        }
    }
    let mode = directory.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DirectoryError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

pub(super) fn owner() -> u32 {
    nix::unistd::Uid::effective().as_raw()
}

/// Waits until this process is the only one that holds the directory; dropping the file ends that.
pub(super) async fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
