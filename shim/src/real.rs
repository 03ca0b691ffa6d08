//! The real buildx: named by the user, remembered by `buildfleet install`, or the first that docker would run without us.

use std::ffi::OsStr;
use std::io::{Read, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::docker::{Config, Globals, config_dir};
use crate::environment::{Environment, is_executable, on_path};
use crate::plugin::{BUILDX, METADATA, Metadata};
use crate::{SHIM, bounded, plugins};

/// A path of the real buildx (or of docker, or `off`: both mean nothing here).
pub const VARIABLE: &str = "BUILDFLEET_BUILDX";

/// Lies beside the plugin.
pub const FILE: &str = "buildfleet.json";

/// What [`SHIM`] is when we are asked who we are, whatever we stand before.
pub const NAME: &str = "name";

/// How long a plugin may take to say who it is.
const LIMIT: Duration = Duration::from_secs(5);

/// What is known of the real buildx, as long as it is the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    path: PathBuf,
    version: String,
    size: u64,
    /// Seconds since 1970, with all nine digits: so that an upgrade within a second shows.
    modified: String,
}

impl Remembered {
    /// Of a buildx that says it has `version`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn of(path: &Path, version: &str) -> Result<Self> {
        let meta = path.metadata()?;
        let modified = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
        Ok(Self { path: path.to_owned(), version: version.to_owned(), size: meta.size(), modified })
    }

    /// `None` when there is none that can be read.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        Self::parse(&std::fs::read(dir.join(FILE)).ok()?)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(text).ok()?;
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        Some(Self {
            path: text("buildx")?.into(),
            version: text("version")?.to_owned(),
            size: json.get("size")?.as_u64()?,
            modified: text("modified")?.to_owned(),
        })
    }

    /// `None` when the path is no text, which JSON cannot hold.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        let path = self.path.to_str()?;
        let json = json!({"buildx": path, "version": self.version, "size": self.size, "modified": self.modified});
        Some(format!("{json:#}\n"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it is still the file that said so.
    #[must_use]
    pub fn fits(&self) -> bool {
        Self::of(&self.path, &self.version).is_ok_and(|now| now == *self)
    }
}

/// This program and the link that it was called by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ourselves {
    /// The program's file.
    pub program: PathBuf,
    /// Where the link to it lies, and what is remembered.
    pub link_dir: Option<PathBuf>,
}

impl Ourselves {
    /// `argv0` without a directory was found on PATH.
    pub fn called(argv0: &OsStr, program: PathBuf, environment: &impl Environment) -> Self {
        let called = Path::new(argv0);
        let link = if called.components().count() > 1 { Some(called.to_owned()) } else { on_path(environment, argv0) };
        Self { program, link_dir: link.and_then(|link| Some(link.parent()?.to_owned())) }
    }

    /// What `install` has remembered.
    #[must_use]
    pub fn remembered(&self) -> Option<Remembered> {
        Remembered::read(self.link_dir.as_deref()?)
    }

    /// Whether `path` leads to this very file.
    #[must_use]
    pub fn is(&self, path: &Path) -> bool {
        let id = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        id(path).is_some_and(|other| id(&self.program) == Some(other))
    }

    /// Whether it is a buildx that is not us: neither this file nor another copy, of whatever version.
    #[must_use]
    pub fn is_other(&self, path: &Path) -> bool {
        is_executable(path) && !self.is(path) && metadata(path).is_none_or(|metadata| !metadata.is_ours())
    }

    /// The buildx that we stand before.
    pub fn find_real(&self, environment: &impl Environment, globals: &Globals) -> Option<PathBuf> {
        if let Some(given) = named(environment).filter(|path| is_executable(path) && !self.is(path)) {
            return Some(given);
        }
        if let Some(remembered) = self.remembered()
            && (remembered.fits() || self.is_other(remembered.path()))
        {
            return Some(remembered.path);
        }
        let dir = config_dir(environment, globals);
        let config = dir.map(|dir| Config::read(dir.clone()).unwrap_or_else(|_| Config::without_file(dir)));
        let directories = match &config {
            Some(config) => plugins::directories(config),
            None => plugins::SYSTEM_DIRS.map(PathBuf::from).into(),
        };
        let path = environment.var("PATH").unwrap_or_default();
        let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
        // The first one, as docker does: one that is broken says so itself.
        directories.into_iter().chain(on_path).map(|dir| dir.join(BUILDX)).find(|path| self.is_other(path))
    }
}

/// `$BUILDFLEET_BUILDX`, when it is a path of a buildx.
fn named(environment: &impl Environment) -> Option<PathBuf> {
    let given = environment.var(VARIABLE).filter(|given| given != "off")?;
    let path = PathBuf::from(&given);
    let path = if path.components().count() > 1 { path } else { on_path(environment, &given)? };
    // docker would only call us again.
    (path.file_name() != Some(OsStr::new("docker"))).then_some(path)
}

/// What a plugin says of itself; one of ours speaks for itself, and not for what it stands before.
#[must_use]
pub fn metadata(path: &Path) -> Option<Metadata> {
    let mut command = Command::new(path);
    command.arg(METADATA).env(SHIM, NAME).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // It fits into a pipe, so that waiting first is no deadlock.
    bounded::wait(&mut child, LIMIT).ok()?.filter(std::process::ExitStatus::success)?;
    let mut text = Vec::new();
    child.stdout.take()?.read_to_end(&mut text).ok()?;
    Metadata::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_holds_as_long_as_the_file_is_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let buildx = dir.path().join("real");
        std::fs::write(&buildx, "one").expect("ours");
        let remembered = Remembered::of(&buildx, "v0.36.0").expect("it is there");
        std::fs::write(dir.path().join(FILE), remembered.to_json().expect("it is text")).expect("ours");
        assert_eq!(Remembered::read(dir.path()), Some(remembered.clone()));
        assert!(remembered.fits());
        std::fs::write(&buildx, "two").expect("ours");
        assert!(!remembered.fits(), "written anew");
        std::fs::remove_file(&buildx).expect("ours");
        assert!(!remembered.fits(), "gone");
    }

    #[test]
    fn what_we_did_not_write_is_not_remembered() {
        for text in ["", "{}", r#"{"buildx":"/b","version":"v1","size":"1","modified":"1"}"#] {
            assert_eq!(Remembered::parse(text.as_bytes()), None, "{text}");
        }
    }
}
