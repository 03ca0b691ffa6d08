//! Builders on disk: versioned, written atomically, held by one daemon at a time. Whatever moment a daemon is killed at,
//! each file is the old one or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::builder::{Builder, BuilderName, NodeName};
use crate::fleet::Remembered;
use crate::proxy::FinishedBuilds;
use crate::report;
use crate::socket::{DirectoryError, private_directory};

mod atomic;
mod format;
mod held;

pub(crate) use held::Held;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Directory(DirectoryError),
    #[error("state directory {} is used by another daemon", .0.display())]
    InUse(PathBuf),
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds a builder that cannot be used and is not overwritten: repair it or move it away", .0.display())]
    Unreadable(PathBuf),
    #[error("the writing was interrupted: {0}")]
    Interrupted(String),
}

/// A builder as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBuilder {
    pub builder: Builder,
    pub created: SystemTime,
}

/// What is known of a node beside what its user said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredNode {
    pub remembered: Remembered,
    pub last_activity: Option<SystemTime>,
    pub finished: FinishedBuilds,
}

/// All that was found on opening.
#[derive(Debug, Default)]
pub struct Loaded {
    pub builders: Vec<StoredBuilder>,
    pub nodes: BTreeMap<NodeName, StoredNode>,
    pub current: Option<BuilderName>,
    /// Tells this state directory from all others, as long as it is kept.
    pub installation: String,
    /// Files that were left out, with the reason: one line each.
    pub warnings: Vec<String>,
}

/// The state directory, held as long as this value lives.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    unreadable: BTreeSet<PathBuf>,
    _lock: Held,
}

impl Store {
    /// Opens `dir`, which is made when it does not exist, and reads what is there.
    ///
    /// # Errors
    /// When the directory is not private, is held by another daemon, or cannot be read. A file in it that cannot be read
    /// is a warning.
    pub fn open(dir: &Path) -> Result<(Self, Loaded), OpenError> {
        private_directory(dir).map_err(OpenError::Directory)?;
        let lock = lock(dir)?;
        let mut store = Self { dir: dir.to_owned(), unreadable: BTreeSet::new(), _lock: lock };
        let mut loaded = store.load()?;
        loaded.installation = store.installation(&mut loaded.warnings);
        Ok((store, loaded))
    }

    /// Keeps a builder's file as it is from now on, because what it holds cannot be used.
    pub fn protect(&mut self, name: &BuilderName) {
        self.unreadable.insert(self.builder_file(name));
    }

    /// Writes a builder, new or changed.
    ///
    /// # Errors
    /// When it could not be written; the old state is kept then.
    pub fn save_builder(&self, stored: &StoredBuilder) -> Result<(), SaveError> {
        let path = self.builder_file(&stored.builder.name);
        if self.unreadable.contains(&path) {
            return Err(SaveError::Unreadable(path));
        }
        write(&path, &format::builder(stored))
    }

    /// Forgets a builder. Its nodes are forgotten by [`Store::remove_node`].
    ///
    /// # Errors
    /// When its file could not be removed.
    pub fn remove_builder(&self, name: &BuilderName) -> Result<(), SaveError> {
        remove(&self.builder_file(name))
    }

    /// Writes what is known of a node.
    ///
    /// # Errors
    /// When it could not be written; the old state is kept then.
    pub fn save_node(&self, name: &NodeName, stored: &StoredNode) -> Result<(), SaveError> {
        write(&self.node_file(name), &format::node(stored))
    }

    /// Forgets what is known of a node.
    ///
    /// # Errors
    /// When its file could not be removed.
    pub fn remove_node(&self, name: &NodeName) -> Result<(), SaveError> {
        remove(&self.node_file(name))
    }

    /// Writes which builder is the current one.
    ///
    /// # Errors
    /// When it could not be written; the old state is kept then.
    pub fn save_current(&self, current: Option<&BuilderName>) -> Result<(), SaveError> {
        write(&self.current_file(), &format::current(current))
    }

    fn builder_file(&self, name: &BuilderName) -> PathBuf {
        self.dir.join("builders").join(format!("{name}.json"))
    }

    fn node_file(&self, name: &NodeName) -> PathBuf {
        self.dir.join("nodes").join(format!("{name}.json"))
    }

    fn current_file(&self) -> PathBuf {
        self.dir.join("current.json")
    }

    fn load(&mut self) -> Result<Loaded, OpenError> {
        let mut loaded = Loaded::default();
        for path in self.files("builders")? {
            match read(&path).and_then(|text| format::parse_builder(&text, &stem(&path))) {
                Ok(stored) => loaded.builders.push(stored),
                Err(problem) => {
                    loaded.warnings.push(format!("{}: builder left out: {problem}", path.display()));
                    self.unreadable.insert(path);
                }
            }
        }
        for path in self.files("nodes")? {
            let parsed = stem(&path)
                .parse()
                .map_err(|error| format!("{error}"))
                .and_then(|name: NodeName| Ok((name, read(&path).and_then(|text| format::parse_node(&text))?)));
            match parsed {
                Ok((name, stored)) => drop(loaded.nodes.insert(name, stored)),
                Err(problem) => loaded.warnings.push(format!("{}: ignored: {problem}", path.display())),
            }
        }
        let path = self.current_file();
        if path.exists() {
            match read(&path).and_then(|text| format::parse_current(&text)) {
                Ok(current) => loaded.current = current,
                Err(problem) => loaded.warnings.push(format!("{}: ignored: {problem}", path.display())),
            }
        }
        Ok(loaded)
    }

    /// Made when there is none; one that cannot be kept is another one after the next start.
    fn installation(&self, warnings: &mut Vec<String>) -> String {
        let path = self.dir.join("installation");
        let known = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
        if known.len() == 16 && known.chars().all(|c| c.is_ascii_hexdigit()) {
            return known;
        }
        // Its keys are random: that is all that is needed of chance here.
        let made = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        if let Err(error) = write(&path, &format!("{made}\n")) {
            warnings.push(report::chain(&error));
        }
        made
    }

    /// The JSON files of a directory, by name; what a killed daemon left half-written is removed.
    fn files(&self, directory: &str) -> Result<Vec<PathBuf>, OpenError> {
        let dir = self.dir.join(directory);
        private_directory(&dir).map_err(OpenError::Directory)?;
        for dir in [&dir, &self.dir] {
            atomic::sweep(dir).map_err(|source| OpenError::Read { path: dir.clone(), source })?;
        }
        let failed = |source| OpenError::Read { path: dir.clone(), source };
        let entries: Result<Vec<_>, _> = fs::read_dir(&dir).map_err(failed)?.collect();
        let mut files: Vec<PathBuf> = entries.map_err(failed)?.iter().map(fs::DirEntry::path).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        Ok(files)
    }
}

fn lock(dir: &Path) -> Result<Held, OpenError> {
    let path = dir.join("lock");
    let failed = |source| OpenError::Read { path: path.clone(), source };
    let file = atomic::private_file().truncate(false).create(true).open(&path).map_err(failed)?;
    Held::try_new(file).map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse(dir.to_owned()),
        TryLockError::Error(source) => failed(source),
    })
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("failed to read it: {error}"))
}

fn write(path: &Path, text: &str) -> Result<(), SaveError> {
    atomic::write(path, text.as_bytes(), &mut |_| Ok(()))
        .map_err(|source| SaveError::Write { path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), SaveError> {
    atomic::remove(path).map_err(|source| SaveError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
