//! The builds of a node that run now, by client connection and ref.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::build::Build;
use crate::builder::PodName;

/// The calls of a build come in any order, and all of them right after each other.
const CALLS_APART: Duration = Duration::from_secs(5);

/// Clients choose refs, so that two connections may use the same one.
type Key = (u64, String);

/// All that runs.
#[derive(Debug, Default)]
pub(super) struct Builds {
    running: Mutex<HashMap<Key, Arc<Build>>>,
    /// Counts what came, for those who wait for one.
    came: watch::Sender<u64>,
}

impl Builds {
    /// Makes a build known to the other calls that belong to it, until the guard is dropped. `None` when its connection has
    /// one of that ref already: the calls of the two could not be told apart.
    pub(super) fn register(self: &Arc<Self>, build: &Arc<Build>) -> Option<Registered> {
        let key = (build.client().id(), build.reference().to_owned());
        match self.locked().entry(key.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(Arc::clone(build))),
        }
        self.came.send_modify(|count| *count += 1);
        Some(Registered { builds: Arc::clone(self), key, build: Arc::clone(build) })
    }

    /// A build of that connection, or else one of another connection: who watches a build need not be who started it.
    pub(super) fn find(&self, client: u64, reference: &str) -> Option<Arc<Build>> {
        let running = self.locked();
        let own = running.get(&(client, reference.to_owned()));
        own.or_else(|| running.iter().find(|((_, other), _)| other == reference).map(|(_, build)| build)).cloned()
    }

    /// As [`Builds::find`], for a call that may have overtaken its build's Solve.
    pub(super) async fn wait_for(&self, client: u64, reference: &str) -> Option<Arc<Build>> {
        let mut came = self.came.subscribe();
        let wait = async {
            loop {
                came.mark_unchanged();
                if let Some(build) = self.find(client, reference) {
                    return build;
                }
                // The sender lives as long as `self`.
                let _ = came.changed().await;
            }
        };
        tokio::time::timeout(CALLS_APART, wait).await.ok()
    }

    /// The pod that has a build of that ref now.
    pub(super) fn pod_of(&self, reference: &str) -> Option<PodName> {
        let running = self.locked();
        running.iter().filter(|((_, other), _)| other == reference).find_map(|(_, build)| build.pod())
    }

    /// How many builds of a connection have no pod yet.
    pub(super) fn unplaced(&self, client: u64) -> usize {
        let running = self.locked();
        running.iter().filter(|((of, _), build)| *of == client && build.is_unplaced()).count()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Arc<Build>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a build off the table when its Solve has ended, however it did.
#[derive(Debug)]
pub(super) struct Registered {
    builds: Arc<Builds>,
    key: Key,
    build: Arc<Build>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = self.builds.locked();
        if running.get(&self.key).is_some_and(|present| Arc::ptr_eq(present, &self.build)) {
            running.remove(&self.key);
        }
        drop(running);
        self.build.end();
    }
}
