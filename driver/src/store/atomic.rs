//! Files that are replaced whole: written beside, synced, renamed, and the directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Ends the names of files that are not finished.
const UNFINISHED: &str = ".unfinished";

/// The points between which a process may be killed; tests stop at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Created,
    HalfWritten,
    Synced,
    Renamed,
}

pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Replaces `path` by a file that holds `content`. `at` is told of every step and may end the writing there.
pub(super) fn write(path: &Path, content: &[u8], at: &mut dyn FnMut(Step) -> io::Result<()>) -> io::Result<()> {
    let beside = unfinished(path);
    // A file that an earlier try left may have any mode and content.
    remove_if_there(&beside)?;
    let mut file = private_file().create_new(true).open(&beside)?;
    at(Step::Created)?;
    let (first, rest) = content.split_at(content.len() / 2);
    file.write_all(first)?;
    at(Step::HalfWritten)?;
    file.write_all(rest)?;
    file.sync_all()?;
    at(Step::Synced)?;
    fs::rename(&beside, path)?;
    at(Step::Renamed)?;
    sync_directory(path)
}

/// Removes `path`; nothing to remove is success.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    sync_directory(path)
}

/// Removes what a killed writer left in `dir`.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(UNFINISHED);
    path.with_file_name(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn killed_at_any_step_a_write_leaves_the_old_or_the_new_file() {
        for stop in [Step::Created, Step::HalfWritten, Step::Synced, Step::Renamed] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("kube.json");
            write(&path, b"old", &mut |_| Ok(())).unwrap();
            let killed = write(&path, b"the new one", &mut |step| {
                if step == stop { Err(io::Error::other("killed")) } else { Ok(()) }
            });
            assert!(killed.is_err());
            let wanted: &[u8] = if stop == Step::Renamed { b"the new one" } else { b"old" };
            assert_eq!(fs::read(&path).unwrap(), wanted, "{stop:?}");
            sweep(dir.path()).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{stop:?}");
            write(&path, b"later", &mut |_| Ok(())).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"later");
        }
    }

    #[test]
    fn files_are_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube.json");
        write(&path, b"old", &mut |_| Ok(())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn removing_what_is_not_there_is_success() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("kube.json")).unwrap();
        assert!(remove(&dir.path().join("no/such/directory")).is_err());
    }
}
