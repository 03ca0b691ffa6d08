//! Which builder a command of buildx's is for, and whether it is one of ours.

use std::path::Path;

use buildfleet_shim::docker::Globals;
use buildfleet_shim::store::{Instance, Store, StoreError};

use super::pflag::Given;
use crate::cli::failure::Failure;
use crate::report;
use crate::settings::{Environment, Process};

/// A builder that a command is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// By its name here and in buildx's store.
    Ours(String),
    /// The real buildx knows what it is, or that there is none.
    Theirs,
}

impl Whose {
    /// `word`, else `--builder`, else `$BUILDX_BUILDER`, else the current one.
    pub(super) fn of(word: Option<&str>, given: &Given, runtime_dir: &Path) -> Result<Self, Failure> {
        let variable = Process.var("BUILDX_BUILDER").map(|value| value.to_string_lossy().into_owned());
        let flag = given.text("builder").map(str::to_owned).or(variable).filter(|name| !name.is_empty());
        let name = word.or(flag.as_deref());
        let Some(store) = store() else { return Ok(Self::Theirs) };
        let found = store.meant(name, &Process, &Globals::default()).map_err(|error| unreadable(&error))?;
        Ok(Self::from(found, runtime_dir))
    }

    /// The builder of that name.
    pub(super) fn named(name: &str, runtime_dir: &Path) -> Result<Self, Failure> {
        let Some(store) = store() else { return Ok(Self::Theirs) };
        let found = store.instance(name).map_err(|error| unreadable(&error))?;
        Ok(Self::from(found, runtime_dir))
    }

    fn from(found: Option<Instance>, runtime_dir: &Path) -> Self {
        match found {
            Some(instance) if instance.is_ours(runtime_dir) => Self::Ours(instance.name),
            _ => Self::Theirs,
        }
    }
}

/// buildx's directory.
pub(super) fn store() -> Option<Store> {
    Store::find(&Process, &Globals::default())
}

pub(super) fn unreadable(error: &StoreError) -> Failure {
    Failure::other(report::chain(error))
}
