//! One kind of object, as its watch tells of it: lists, changes and failures.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Pod as KubePod, Service};
use kube::ResourceExt;
use kube::runtime::watcher;

use crate::backend::StoryLine;
use crate::manifest::Workload;

/// After so many failures in a row the snapshot is no longer trusted.
const FAILURES_UNTIL_UNKNOWN: u32 = 3;

/// One kind of object, as its watch tells of it.
#[derive(Debug)]
pub(super) struct Listed<K> {
    pub(super) objects: BTreeMap<String, K>,
    /// Gathers a list until it is whole.
    fresh: Option<BTreeMap<String, K>>,
    /// Whether a whole list was seen.
    pub(super) seen: bool,
    failures: u32,
    failure: Option<String>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), fresh: None, seen: false, failures: 0, failure: None }
    }
}

/// What is known by a name of its own within its kind.
pub(super) trait Named {
    fn name(&self) -> String;
}

impl Named for KubePod {
    fn name(&self) -> String {
        self.name_any()
    }
}

impl Named for Service {
    fn name(&self) -> String {
        self.name_any()
    }
}

impl Named for Event {
    fn name(&self) -> String {
        self.name_any()
    }
}

impl Named for Workload {
    fn name(&self) -> String {
        self.metadata().name.clone().unwrap_or_default()
    }
}

impl<K: Named> Listed<K> {
    /// Takes an event in and returns the objects that are gone.
    pub(super) fn take(&mut self, event: watcher::Event<K>) -> Vec<K> {
        match event {
            watcher::Event::Init => {
                self.fresh = Some(BTreeMap::new());
                // A list is only begun here: it proves nothing yet.
                return Vec::new();
            }
            watcher::Event::InitApply(object) => {
                self.fresh.get_or_insert_default().insert(object.name(), object);
                return Vec::new();
            }
            watcher::Event::InitDone => {
                let fresh = self.fresh.take().unwrap_or_default();
                let mut before = std::mem::replace(&mut self.objects, fresh);
                before.retain(|name, _| !self.objects.contains_key(name));
                self.seen = true;
                self.recovered();
                return before.into_values().collect();
            }
            watcher::Event::Apply(object) => {
                self.objects.insert(object.name(), object);
            }
            watcher::Event::Delete(object) => {
                self.recovered();
                let known = self.objects.remove(&object.name());
                // The deletion carries the last state.
                return known.map(|_| object).into_iter().collect();
            }
        }
        self.recovered();
        Vec::new()
    }

    fn recovered(&mut self) {
        self.failures = 0;
        self.failure = None;
    }

    pub(super) fn failed(&mut self, why: String) {
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(why);
    }

    pub(super) fn is_known(&self) -> bool {
        self.seen && self.failures < FAILURES_UNTIL_UNKNOWN
    }

    /// A single failure is a watch that ran out, after a whole list was seen.
    pub(super) fn note(&self) -> Option<StoryLine> {
        let why = self.failure.as_ref().filter(|_| !self.seen || self.failures > 1)?;
        Some(StoryLine::trouble(why.clone()))
    }
}
