//! The files of the certificates: where they are, and that only their owner can read them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::super::files;
use crate::certificates::{Authority, Certificate, ReadError, Text, read_all};

pub(super) const CA: &str = "ca.pem";
pub(super) const CERTIFICATE: &str = "cert.pem";
pub(super) const KEY: &str = "key.pem";
const NAMES: &str = "SAN";

/// What one side has: the daemons, or the clients.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Side {
    /// The authorities that it trusts.
    pub(super) ca: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Side {
    pub(super) fn files(&self) -> [(&'static str, &str); 3] {
        [(CA, &self.ca), (CERTIFICATE, &self.certificate), (KEY, &self.key)]
    }
}

/// All that the directory holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) daemon: Side,
    pub(super) client: Side,
    /// Certificate and key of the authority that signs, where they are kept.
    pub(super) authority: Option<(String, String)>,
}

/// A text of the directory, for what reads it.
pub(super) fn text<'a>(file: &Path, text: &'a str) -> Text<'a> {
    Text { text: text.as_bytes(), place: file.display().to_string() }
}

#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn file(&self, side: &str, name: &str) -> PathBuf {
        self.path.join(side).join(name)
    }

    /// Files that are there already, of those that are written; those of Secrets by these names.
    pub(super) fn present(&self, secrets: &[String]) -> Vec<String> {
        let sides =
            ["daemon", "client", "ca"].into_iter().flat_map(|side| [CA, CERTIFICATE, KEY].map(|name| (side, name)));
        let all = sides.map(|(side, name)| self.file(side, name)).chain([self.path.join(NAMES)]);
        let all = all.chain(secrets.iter().map(|name| self.path.join(format!("{name}.yaml"))));
        all.filter(|file| file.symlink_metadata().is_ok()).map(|file| file.display().to_string()).collect()
    }

    /// All files, or every one that cannot be read.
    pub(super) fn read(&self) -> Result<Held, Failure> {
        let mut problems = Vec::new();
        let mut read = |side: &str, name: &str| {
            let file = self.file(side, name);
            files::text(&file).unwrap_or_else(|problem| {
                problems.push(format!("failed to read {}: {problem}", file.display()));
                String::new()
            })
        };
        let mut side =
            |name: &str| Side { ca: read(name, CA), certificate: read(name, CERTIFICATE), key: read(name, KEY) };
        let (daemon, client) = (side("daemon"), side("client"));
        let authority = self.has_authority_key().then(|| (read("ca", CERTIFICATE), read("ca", KEY)));
        if problems.is_empty() {
            return Ok(Held { daemon, client, authority });
        }
        let failure = Failure::other(problems.join("\n"));
        let made_here = "`buildfleet certs create SAN...` makes them, and --dir says where they are";
        Err(if self.present(&[]).is_empty() { failure.hint(made_here) } else { failure })
    }

    fn has_authority_key(&self) -> bool {
        self.file("ca", KEY).exists()
    }

    /// The kept authority; none when its key was forgotten.
    pub(super) fn authority(&self, held: &Held) -> Result<Option<Authority>, Failure> {
        let Some((certificate, key)) = &held.authority else { return Ok(None) };
        let (certificate, key) = (text(&self.file("ca", CERTIFICATE), certificate), text(&self.file("ca", KEY), key));
        Authority::read(&certificate, &key).map(Some).map_err(|error| Failure::other(crate::report::chain(&error)))
    }

    /// The certificates of one file's text.
    pub(super) fn certificates(&self, side: &str, name: &str, pem: &str) -> Result<Vec<Certificate>, ReadError> {
        read_all(&text(&self.file(side, name), pem))
    }

    /// Writes all of it. Each file is whole at any time, and readable by its owner alone.
    pub(super) fn write(&self, held: &Held, secrets: &[(String, String)]) -> Result<(), Failure> {
        self.write_all(held, secrets)
            .map_err(|(path, error)| Failure::other(error.to_string()).doing(format!("write {}", path.display())))
    }

    fn write_all(&self, held: &Held, secrets: &[(String, String)]) -> Result<(), (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        for directory in [self.path.clone(), self.path.join("daemon"), self.path.join("client")] {
            make(&directory).map_err(at(&directory))?;
        }
        let authority = self.path.join("ca");
        let mut texts = Vec::new();
        match &held.authority {
            Some((certificate, key)) => {
                make(&authority).map_err(at(&authority))?;
                // First: what it has signed can then be signed again, should the rest not be written.
                texts.extend([(authority.join(CERTIFICATE), certificate.as_str()), (authority.join(KEY), key)]);
            }
            None => {
                for file in [KEY, CERTIFICATE].map(|name| authority.join(name)) {
                    files::remove(&file).map_err(at(&file))?;
                }
                // Somebody may keep something else there.
                let _ = fs::remove_dir(&authority);
            }
        }
        let names = self.certificates("daemon", CERTIFICATE, &held.daemon.certificate);
        let names = names.ok().and_then(|read| read.first().map(|read| read.names().join("\n") + "\n"));
        for (side, held) in [("daemon", &held.daemon), ("client", &held.client)] {
            texts.extend(held.files().map(|(name, text)| (self.file(side, name), text)));
        }
        texts.extend(names.as_deref().map(|names| (self.path.join(NAMES), names)));
        texts.extend(secrets.iter().map(|(name, text)| (self.path.join(name), text.as_str())));
        for (file, text) in texts {
            replace(&file, text).map_err(at(&file))?;
        }
        Ok(())
    }

    /// Keys that others than their owner can read.
    pub(super) fn readable_keys(&self) -> Vec<String> {
        let keys = ["daemon", "client", "ca"].map(|side| self.file(side, KEY));
        let readable = |file: &PathBuf| fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
        keys.into_iter().filter(readable).map(|file| file.display().to_string()).collect()
    }
}

/// One that is there keeps its mode: it is the user's.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Always by the same name, so that a key that was left by a command that was killed does not stay.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    files::replace(file, &file.with_file_name(name), text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str) -> Side {
        Side { ca: format!("{name} ca"), certificate: format!("{name} cert"), key: format!("{name} key") }
    }

    fn held(authority: bool) -> Held {
        let authority = authority.then(|| ("ca cert".to_owned(), "ca key".to_owned()));
        Held { daemon: side("daemon"), client: side("client"), authority }
    }

    #[test]
    fn what_was_written_is_read_back_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().join("a/.certs"));
        assert_eq!(directory.present(&["x".to_owned()]), Vec::<String>::new());
        directory.write(&held(true), &[("x.yaml".to_owned(), "x".to_owned())]).unwrap();
        assert!(directory.read().unwrap() == held(true));
        // Three for each side and two of the authority; a text that is no certificate has no names.
        assert_eq!(directory.present(&[]).len(), 8);
        assert_eq!(directory.present(&["x".to_owned()]).len(), 9);
        assert_eq!(directory.readable_keys(), Vec::<String>::new());
        let files = ["daemon/key.pem", "client/cert.pem", "ca/key.pem", "x.yaml"].map(|name| (name, 0o600));
        for (name, wanted) in files.into_iter().chain([("", 0o700), ("daemon", 0o700), ("ca", 0o700)]) {
            let mode = fs::metadata(dir.path().join("a/.certs").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, wanted, "{name}");
        }
    }

    #[test]
    fn a_file_that_anybody_could_read_is_replaced_by_one_that_nobody_else_can() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned());
        directory.write(&held(true), &[]).unwrap();
        let key = directory.file("daemon", KEY);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(directory.file("daemon", "key.pem.new"), "left over").unwrap();
        assert_eq!(directory.readable_keys(), [key.display().to_string()]);
        directory.write(&held(true), &[]).unwrap();
        assert_eq!(directory.readable_keys(), Vec::<String>::new());
    }

    #[test]
    fn an_authority_that_is_not_kept_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned());
        directory.write(&held(true), &[]).unwrap();
        directory.write(&held(false), &[]).unwrap();
        assert!(directory.read().unwrap() == held(false));
        assert!(!dir.path().join("ca").exists());
    }

    #[test]
    fn every_file_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned());
        let text = directory.read().err().unwrap().render();
        assert_eq!(text.matches("failed to read ").count(), 6, "{text}");
        assert!(text.ends_with("says where they are\n"), "{text}");
        directory.write(&held(false), &[]).unwrap();
        fs::remove_file(directory.file("client", KEY)).unwrap();
        let text = directory.read().err().unwrap().render();
        assert_eq!(text.matches("failed to read ").count(), 1, "{text}");
        assert!(text.contains("client/key.pem: No such file"), "{text}");
    }
}
