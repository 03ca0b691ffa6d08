//! Does what was planned: each change whole or not at all.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::config;
use super::plan::Step;
use crate::cli::files;

/// A file of docker's holds credentials.
const PRIVATE: u32 = 0o600;
const READABLE: u32 = 0o644;

pub(super) fn apply(step: &Step) -> Result<()> {
    match step {
        Step::Link { path, target } => {
            fs::create_dir_all(parent(path))?;
            let new = beside(path);
            files::remove(&new)?;
            symlink(target, &new)?;
            fs::rename(&new, path)
        }
        Step::Remember { path, real } => {
            fs::create_dir_all(parent(path))?;
            let text = real.to_json().ok_or_else(|| Error::new(ErrorKind::InvalidData, "the path is no text"))?;
            files::replace(path, &beside(path), text.as_bytes(), READABLE)
        }
        Step::PutFirst { config, dir } => change(config, |text| match text {
            Some(text) => config::put_first(text, dir.to_str()?).map(Some),
            None => Some(Some(config::fresh(dir.to_str()?))),
        }),
        Step::TakeOut { config, dir } => change(config, |text| {
            let (Some(text), dir) = (text, dir.to_str()?) else { return Some(None) };
            let left = config::take_out(text, dir)?.unwrap_or_else(|| text.to_owned());
            Some((text != config::fresh(dir)).then_some(left))
        }),
        Step::Remove { path } => files::remove(path),
        Step::RemoveDir { path } => match fs::remove_dir(path) {
            // Somebody has put something there, or nothing was there.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => Ok(()),
            done => done,
        },
    }
}

/// Read anew just before it is written, because docker may have written it since. Without a text the file goes.
fn change(file: &Path, edit: impl FnOnce(Option<&str>) -> Option<Option<String>>) -> Result<()> {
    // A link, as those who keep such files elsewhere have it, stays one.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let text = match fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let strange =
        || Error::new(ErrorKind::InvalidData, "it is not what docker reads, or the directory's path is no text");
    match edit(text.as_deref()).ok_or_else(strange)? {
        Some(changed) => {
            let mode = fs::metadata(&file).map_or(PRIVATE, |meta| meta.permissions().mode() & 0o777);
            fs::create_dir_all(parent(&file))?;
            files::replace(&file, &beside(&file), changed.as_bytes(), mode)
        }
        None => files::remove(&file),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Two that install at the same time write files of their own.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}
