//! What is asked of a program's surroundings: those of this process, or a table that a test hands in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What settings, docker's and ours, ask of their surroundings.
pub trait Environment {
    /// The value of a variable; `None` when it is unset or empty.
    fn var(&self, name: &str) -> Option<OsString>;

    fn uid(&self) -> u32;

    fn exists(&self, path: &Path) -> bool;

    /// What relative paths are relative to.
    fn current_dir(&self) -> Option<PathBuf>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy)]
pub struct Process;

impl Environment for Process {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    fn uid(&self) -> u32 {
        nix::unistd::Uid::effective().as_raw()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn current_dir(&self) -> Option<PathBuf> {
        std::env::current_dir().ok()
    }
}

/// Variables alone, of root, on a machine without files.
impl<K: Ord + std::borrow::Borrow<str>, V: Into<OsString> + Clone> Environment for BTreeMap<K, V> {
    fn var(&self, name: &str) -> Option<OsString> {
        self.get(name).cloned().map(Into::into).filter(|value: &OsString| !value.is_empty())
    }

    fn uid(&self) -> u32 {
        0
    }

    fn exists(&self, _path: &Path) -> bool {
        false
    }

    fn current_dir(&self) -> Option<PathBuf> {
        None
    }
}

/// The first program of that name on PATH.
pub fn on_path(environment: &impl Environment, program: &OsStr) -> Option<PathBuf> {
    let path = environment.var("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

/// Whether it is a file that somebody may run.
pub fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
