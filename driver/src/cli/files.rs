//! Files of the user, read where the user is, because the daemon may be elsewhere, and replaced as a whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use buildfleet_proto::fleet::BuildkitdConfig;

use crate::builder;

/// What buildx reads of a file at most.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// All that comes, or why it is not taken: half of a file must not pass for a whole one.
pub(super) fn bounded(from: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match from.take(limit + 1).read_to_end(&mut bytes) {
        Err(error) => Err(error.to_string()),
        Ok(read) if read as u64 > limit => Err(format!("it has more than {limit} bytes")),
        Ok(_) => Ok(bytes),
    }
}

/// A file's text, or why there is none.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    String::from_utf8(bounded(file, LIMIT)?).map_err(|_| "it is not UTF-8".to_owned())
}

/// A `buildkitd.toml` with the files that it names. As in buildx, their paths are seen from the working directory.
pub(super) fn buildkitd_config(path: &Path) -> Result<BuildkitdConfig, String> {
    let option = || format!("--buildkitd-config {}", path.display());
    let toml = text(path).map_err(|problem| format!("failed to read {}: {problem}", option()))?;
    let config = builder::BuildkitdConfig::read(&toml, |named| text(Path::new(named))).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{}: {error}", option())).collect();
        lines.join("\n")
    })?;
    let files = config.named().iter().map(|(name, content)| (name.clone(), content.clone())).collect();
    Ok(BuildkitdConfig { toml: config.toml().to_owned(), files })
}

/// Puts a file of this mode at `path` in one step, so that nobody reads half of it; it is written at `beside` before.
pub(super) fn replace(path: &Path, beside: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // One that was left by a command that was killed may have any mode.
    remove(beside)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
    file.write_all(content)?;
    // The umask has no say.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(beside, path)
}

/// Removes the file if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_refused_and_not_cut() {
        assert_eq!(bounded(&b"four"[..], 4), Ok(b"four".to_vec()));
        assert_eq!(bounded(&b"five!"[..], 4), Err("it has more than 4 bytes".to_owned()));
        assert_eq!(bounded(io::repeat(0), 4), Err("it has more than 4 bytes".to_owned()));
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_whatever_was_left_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let [path, beside] = ["file", ".new"].map(|name| dir.path().join(name));
        for mode in [0o600, 0o666] {
            fs::write(&beside, "left over").expect("ours");
            replace(&path, &beside, b"whole", mode).expect("ours");
            assert_eq!(fs::read(&path).expect("it is there"), b"whole");
            assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, mode);
            assert!(!beside.exists());
        }
        for _ in 0..2 {
            remove(&path).expect("it may be gone");
        }
        assert!(!path.exists());
    }
}
