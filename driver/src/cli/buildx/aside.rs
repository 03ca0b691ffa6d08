//! buildx's store without its `buildkitd.default.toml`.
//!
//! buildx takes that file for every node that it makes, and then refuses it for a `remote` one: whoever has such a file could
//! register none. So buildx is shown a directory of ours in which everything else of its own is linked, its lock as well.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use buildfleet_shim::store::Store;
use ring::rand::{SecureRandom, SystemRandom};

/// buildx's default configuration of `buildkitd`, for nodes that are given none.
pub(in crate::cli) const DEFAULT_CONFIG: &str = "buildkitd.default.toml";

/// What buildx writes below its directory. Each is made, so that what buildx writes is written in its own.
const DIRS: [&str; 4] = ["instances", "defaults", "activity", "refs"];

/// A directory that is gone with this value.
#[derive(Debug)]
pub(super) struct Aside(PathBuf);

impl Aside {
    /// `None` when it is not needed, or cannot be made: buildx then says itself what it does not like.
    pub(super) fn of(store: &Store) -> Option<Self> {
        let real = store.dir();
        if !real.join(DEFAULT_CONFIG).exists() {
            return None;
        }
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).ok()?;
        let dir = real.join(format!(".buildfleet-{:016x}", u64::from_ne_bytes(random)));
        fs::create_dir(&dir).ok()?;
        let aside = Self(dir);
        for name in DIRS {
            fs::create_dir_all(real.join(name)).ok()?;
            symlink(real.join(name), aside.0.join(name)).ok()?;
        }
        // A lock is the file's, and not its name's.
        let lock = real.join(".lock");
        fs::OpenOptions::new().create(true).append(true).open(&lock).ok()?;
        symlink(&lock, aside.0.join(".lock")).ok()?;
        Some(aside)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Links are removed, and not what they point at.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use buildfleet_shim::docker::Globals;

    use super::*;

    #[test]
    fn only_the_default_configuration_is_out_of_sight() {
        let dir = tempfile::tempdir().expect("a directory");
        let environment = BTreeMap::from([("BUILDX_CONFIG", dir.path().as_os_str())]);
        let store = Store::find(&environment, &Globals::default()).expect("it is named");
        assert!(Aside::of(&store).is_none(), "nothing is in the way");
        fs::write(dir.path().join(DEFAULT_CONFIG), "debug = true").expect("ours");
        let aside = Aside::of(&store).expect("a directory that can be written to");
        fs::write(aside.dir().join("instances/kube"), "{}").expect("ours");
        assert!(!aside.dir().join(DEFAULT_CONFIG).exists());
        let gone = aside.dir().to_owned();
        drop(aside);
        assert!(!gone.exists());
        assert_eq!(fs::read_to_string(dir.path().join("instances/kube")).ok().as_deref(), Some("{}"));
        assert!(dir.path().join(DEFAULT_CONFIG).exists() && dir.path().join(".lock").exists());
    }
}
