//! The log of a daemon that nobody watches: a file that does not grow without end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::socket::{DirectoryError, private_directory};

/// How large a log may become; the one before it is kept beside it.
const LIMIT: u64 = 4 << 20;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Directory(DirectoryError),
    #[error("failed to open log {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A bounded log. It may be the same file as the process' stderr: it is emptied, never replaced.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    limit: u64,
}

impl LogFile {
    /// Opens `path` to write at its end.
    ///
    /// # Errors
    /// When its directory is not private or it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        private_directory(path.parent().unwrap_or(Path::new("/"))).map_err(LogError::Directory)?;
        let open = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = open.map_err(|source| LogError::Open { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, limit: LIMIT })
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.file.metadata()?.len() >= self.limit {
            fs::copy(&self.path, self.path.with_extension("log.1"))?;
            self.file.set_len(0)?;
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_log_that_is_full_is_moved_aside_and_goes_on() {
        let private = fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        // As stderr is: another handle on the same file.
        let mut stderr = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).unwrap();
        let mut log = LogFile { limit: 64, ..LogFile::open(&path).unwrap() };
        for n in 0..20 {
            writeln!(log, "line {n:02}").unwrap();
        }
        writeln!(stderr, "a panic").unwrap();
        let (now, before) = (fs::read_to_string(&path).unwrap(), fs::read(dir.path().join("daemon.log.1")).unwrap());
        assert!(now.ends_with("line 19\na panic\n") && now.len() < 64 + 16, "{now}");
        assert!(before.starts_with(b"line ") && before.len() <= 64 + 8);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
