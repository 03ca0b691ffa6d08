//! What the watches said so far, folded into a snapshot of the node's pods. Pure: no client, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Event, Pod as KubePod};
use kube::ResourceExt;
use kube::runtime::watcher;

use super::story::{self, Crash, Seen};
use crate::backend::{Pod, PodEnd, PodPhase, Pods, StoryLine};
use crate::builder::PodName;
use crate::manifest::Workload;

#[cfg(test)]
mod tests;

/// How many ends of pods are kept.
const ENDED_MAX: usize = 64;
/// After so many failures in a row the snapshot is no longer trusted.
const FAILURES_UNTIL_UNKNOWN: u32 = 3;

/// One kind of object, as its watch tells of it.
#[derive(Debug)]
struct Listed<K> {
    objects: BTreeMap<String, K>,
    /// Gathers a list until it is whole.
    fresh: Option<BTreeMap<String, K>>,
    /// Whether a whole list was seen.
    seen: bool,
    failures: u32,
    failure: Option<String>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), fresh: None, seen: false, failures: 0, failure: None }
    }
}

/// What is known by a name of its own within its kind.
trait Named {
    fn name(&self) -> String;
}

impl Named for KubePod {
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
    fn take(&mut self, event: watcher::Event<K>) -> Vec<K> {
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

    fn failed(&mut self, why: String) {
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(why);
    }

    fn is_known(&self) -> bool {
        self.seen && self.failures < FAILURES_UNTIL_UNKNOWN
    }

    /// A single failure is a watch that ran out, after a whole list was seen.
    fn note(&self) -> Option<StoryLine> {
        let why = self.failure.as_ref().filter(|_| !self.seen || self.failures > 1)?;
        Some(StoryLine::trouble(why.clone()))
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct View {
    workloads: Listed<Workload>,
    pods: Listed<KubePod>,
    events: Listed<Event>,
    /// The last output of crashed containers, by pod.
    crash_logs: BTreeMap<String, (Crash, String)>,
    /// Crashes whose output was asked for.
    asked: BTreeSet<(String, Crash)>,
    ended: BTreeMap<PodName, PodEnd>,
    ended_order: VecDeque<PodName>,
    /// Why there is no connection at all.
    disconnected: Option<String>,
    events_refused: Option<String>,
}

impl View {
    pub(super) fn workload(&mut self, event: watcher::Event<Workload>) {
        self.workloads.take(event);
    }

    pub(super) fn pod(&mut self, event: watcher::Event<KubePod>) {
        for gone in self.pods.take(event) {
            let name = gone.name_any();
            let log = self.crash_log(&name, &gone);
            let end = story::end_of_vanished(&gone, log.as_deref());
            self.crash_logs.remove(&name);
            self.asked.retain(|(pod, _)| *pod != name);
            let Ok(name) = name.parse::<PodName>() else { continue };
            if self.ended.insert(name.clone(), end).is_none() {
                self.ended_order.push_back(name);
            }
            while self.ended_order.len() > ENDED_MAX {
                if let Some(oldest) = self.ended_order.pop_front() {
                    self.ended.remove(&oldest);
                }
            }
        }
    }

    pub(super) fn event(&mut self, event: watcher::Event<Event>) {
        self.events.take(event);
        let pods = &self.pods.objects;
        // Other pods of the namespace are not ours to remember.
        self.events.objects.retain(|_, event| {
            let about = event.involved_object.name.as_deref();
            about.is_some_and(|name| pods.contains_key(name))
        });
    }

    pub(super) fn crash_output(&mut self, pod: String, crash: Crash, text: &str) {
        self.crash_logs.insert(pod, (crash, story::crash_output(text)));
    }

    pub(super) fn pods_failed(&mut self, why: String) {
        self.pods.failed(why);
    }

    pub(super) fn workloads_failed(&mut self, why: String) {
        self.workloads.failed(why);
    }

    /// There is no right to see events, and no use in asking again.
    pub(super) fn events_refused(&mut self, why: String) {
        self.events_refused = Some(why);
    }

    pub(super) fn disconnected(&mut self, why: Option<String>) {
        self.disconnected = why;
    }

    /// Whether events could tell why a pod does not run.
    pub(super) fn wants_events(&self) -> bool {
        self.events_refused.is_none() && self.pods.objects.values().any(|pod| story::phase(pod) == PodPhase::Pending)
    }

    /// Crashes whose output was not asked for yet; they count as asked for from now on.
    pub(super) fn crashes_to_read(&mut self) -> Vec<(String, Crash)> {
        let mut wanted = Vec::new();
        for (name, pod) in &self.pods.objects {
            if let Some(crash) = story::crash(pod)
                && self.asked.insert((name.clone(), crash.clone()))
            {
                wanted.push((name.clone(), crash));
            }
        }
        wanted
    }

    /// `None` while it is not known which pods there are.
    pub(super) fn has_pod(&self, name: &PodName) -> Option<bool> {
        self.pods.is_known().then(|| self.pods.objects.contains_key(name.as_str()))
    }

    pub(super) fn address(&self, name: &PodName) -> Option<IpAddr> {
        let status = self.pods.objects.get(name.as_str())?.status.as_ref()?;
        status.pod_ip.as_deref()?.parse().ok()
    }

    fn crash_log(&self, name: &str, pod: &KubePod) -> Option<String> {
        let (crash, text) = self.crash_logs.get(name)?;
        let now = story::crash(pod);
        // A container that crashed again has other last words.
        let same = |now: Crash| now.container == crash.container && now.restarts == crash.restarts;
        now.is_none_or(same).then(|| text.clone())
    }

    pub(super) fn snapshot(&self) -> Pods {
        let mut notes = Vec::new();
        notes.extend(self.disconnected.as_ref().map(StoryLine::trouble));
        notes.extend(self.pods.note());
        notes.extend(self.workloads.note());
        notes.extend(self.workloads.objects.values().flat_map(story::node_notes));
        notes.extend(self.events_refused.as_ref().map(StoryLine::plain));
        notes.dedup();
        Pods {
            known: self.disconnected.is_none() && self.pods.is_known() && self.workloads.is_known(),
            applied: !self.workloads.objects.is_empty(),
            pods: self.pods.objects.iter().filter_map(|(name, pod)| self.pod_snapshot(name, pod)).collect(),
            notes,
            ended: self.ended.clone(),
        }
    }

    fn pod_snapshot(&self, name: &str, pod: &KubePod) -> Option<Pod> {
        let log = self.crash_log(name, pod);
        let mut events: Vec<&Event> =
            self.events.objects.values().filter(|event| event.involved_object.name.as_deref() == Some(name)).collect();
        events.sort_by_key(|event| (time_of(event), event.metadata.name.clone()));
        Some(Pod {
            name: name.parse().ok()?,
            phase: story::phase(pod),
            incarnation: story::incarnation(pod),
            host: story::host(pod).map(str::to_owned),
            started: story::started(pod),
            story: story::story(Seen { pod, events: &events, crash_log: log.as_deref() }),
            last_end: story::last_end(pod, log.as_deref()),
        })
    }
}

/// When it happened first, so that a repetition does not move it.
fn time_of(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let exact = event.event_time.as_ref().map(|time| time.0);
    exact.or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
}
