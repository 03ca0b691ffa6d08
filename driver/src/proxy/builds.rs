//! The builds of a node that run now, by client connection and ref.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::build::Build;
use crate::builder::PodName;

/// The calls of a build come in any order, and all of them right after each other.
const CALLS_APART: Duration = Duration::from_secs(5);

/// Clients choose refs, so that two connections may use the same one.
type Key = (u64, String);

/// Builds that have ended and are still known: their other calls come at most [`CALLS_APART`] later.
const ENDED: usize = 256;

/// What a call finds that names a build.
#[derive(Debug)]
pub(super) enum Found {
    Build(Arc<Build>),
    /// It has ended before this call came, and no pod ever heard of it.
    Nothing,
}

/// All that runs.
#[derive(Debug, Default)]
pub(super) struct Builds {
    table: Mutex<Table>,
    /// Counts what came, for those who wait for one.
    came: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    running: HashMap<Key, Arc<Build>>,
    /// The latest first, and whether a pod ever heard of it.
    ended: VecDeque<(Key, bool)>,
}

impl Table {
    fn find(&self, key: &Key) -> Option<Found> {
        let own = self.running.get(key).cloned().map(Found::Build);
        let nothing = || self.ended.contains(&(key.clone(), false)).then_some(Found::Nothing);
        let other = || self.running.iter().find(|((_, other), _)| *other == key.1).map(|(_, build)| Arc::clone(build));
        own.or_else(nothing).or_else(|| other().map(Found::Build))
    }
}

impl Builds {
    /// Makes a build known to the other calls that belong to it, until the guard is dropped. `None` when its connection has
    /// one of that ref already: the calls of the two could not be told apart.
    pub(super) fn register(self: &Arc<Self>, build: &Arc<Build>) -> Option<Registered> {
        let key = (build.client().id(), build.reference().to_owned());
        let mut table = self.locked();
        match table.running.entry(key.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(Arc::clone(build))),
        }
        table.ended.retain(|(ended, _)| *ended != key);
        drop(table);
        self.came.send_modify(|count| *count += 1);
        Some(Registered { builds: Arc::clone(self), key, build: Arc::clone(build) })
    }

    /// A build of that connection, or else one of another connection: who watches a build need not be who started it. Waits for
    /// one, because a call may have overtaken its build's Solve.
    pub(super) async fn find(&self, client: u64, reference: &str) -> Option<Found> {
        let key = (client, reference.to_owned());
        let mut came = self.came.subscribe();
        let wait = async {
            loop {
                came.mark_unchanged();
                if let Some(found) = self.locked().find(&key) {
                    return found;
                }
                // The sender lives as long as `self`.
                let _ = came.changed().await;
            }
        };
        tokio::time::timeout(CALLS_APART, wait).await.ok()
    }

    /// Whether the connection had a build of that ref and has none now: no other one is on its way.
    pub(super) fn has_ended(&self, client: u64, reference: &str) -> bool {
        self.locked().ended.iter().any(|((of, ended), _)| *of == client && ended == reference)
    }

    /// The pod that has a build of that ref now.
    pub(super) fn pod_of(&self, reference: &str) -> Option<PodName> {
        let table = self.locked();
        table.running.iter().filter(|((_, other), _)| other == reference).find_map(|(_, build)| build.pod())
    }

    /// How many builds of a connection have no pod yet.
    pub(super) fn unplaced(&self, client: u64) -> usize {
        let table = self.locked();
        table.running.iter().filter(|((of, _), build)| *of == client && build.is_unplaced()).count()
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut table = self.builds.locked();
        if table.running.get(&self.key).is_some_and(|present| Arc::ptr_eq(present, &self.build)) {
            table.running.remove(&self.key);
        }
        table.ended.truncate(ENDED - 1);
        table.ended.push_front((self.key.clone(), !self.build.is_nothing()));
        drop(table);
        self.build.end();
    }
}
