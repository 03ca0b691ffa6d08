//! The builders of buildx's store, looked up when a route depends on them.

use std::path::PathBuf;

use buildfleet_shim::docker::Globals;
use buildfleet_shim::environment::Process;
use buildfleet_shim::route::Builders;
use buildfleet_shim::store::{Instance, Store};

/// A store that cannot be read has none: buildx, which gets the command then, says what is wrong with it.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    store: Option<Store>,
    globals: &'a Globals,
    runtime_dir: Option<PathBuf>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(globals: &'a Globals, runtime_dir: Option<PathBuf>) -> Self {
        Self { store: Store::find(&Process, globals), globals, runtime_dir }
    }
}

impl Builders for Known<'_> {
    fn meant(&self, name: Option<&str>) -> Option<Instance> {
        self.store.as_ref()?.meant(name, &Process, self.globals).ok().flatten()
    }

    fn is_ours(&self, builder: &Instance) -> bool {
        self.runtime_dir.as_deref().is_some_and(|dir| builder.is_ours(dir))
    }

    fn has_ours(&self) -> bool {
        let all = self.store.as_ref().map(Store::instances).and_then(Result::ok).unwrap_or_default();
        all.iter().any(|builder| self.is_ours(builder))
    }
}
