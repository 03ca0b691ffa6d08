//! What the watches said so far, folded into a snapshot of the node's pods. Pure: no client, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Event, Pod as KubePod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher;
use serde_json::Value;

use super::drift::Look;
use super::follow::mapped;
use super::marks::Marks;
use super::story::{self, Crash, Seen};
use crate::backend::{Installation, Pod, PodEnd, PodPhase, Pods, StoryLine};
use crate::builder::PodName;
use crate::manifest::{Workload, WorkloadKind};

mod listed;
#[cfg(test)]
mod tests;
mod theirs;

use listed::Listed;
use theirs::Theirs;

/// How many ends of pods are kept.
const ENDED_MAX: usize = 64;

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
    drift: Drift,
    us: Installation,
    /// Set for pods that somebody else runs.
    theirs: Option<Theirs>,
}

/// What others did to the workload.
#[derive(Debug, Default)]
struct Drift {
    /// The last state of the workload that was looked at, or that an order of ours made.
    looked_at: Option<Generation>,
    changed: Look,
    /// It was there, and nobody here has removed it.
    missing: Option<String>,
    /// Orders of ours that are under way: what they remove or change is nobody else's doing.
    orders: usize,
}

/// One state of an object's options, and of what is noted of them.
type Generation = (Option<String>, Option<i64>, Option<String>);

fn generation(workload: &Workload) -> Generation {
    let metadata = workload.metadata();
    (metadata.uid.clone(), metadata.generation, Marks::of(metadata).applied)
}

impl View {
    pub(super) fn of(us: Installation) -> Self {
        Self { us, ..Self::default() }
    }

    pub(super) fn workload(&mut self, event: watcher::Event<Workload>) {
        let gone = self.workloads.take(event);
        if let Some(gone) = gone.first().filter(|_| self.drift.orders == 0 && self.theirs.is_none()) {
            self.drift.missing = Some(format!(
                "{} was deleted by somebody else; the next build or bootstrap makes it again",
                gone.called()
            ));
        }
        if self.workloads.objects.is_empty() {
            self.drift.changed = Look::default();
        } else {
            self.drift.missing = None;
        }
        self.without_lead();
    }

    /// An order of ours begins, or ends with what it made, when it made something.
    pub(super) fn order(&mut self, begins: bool, made: Option<Workload>) {
        self.drift.orders = if begins { self.drift.orders + 1 } else { self.drift.orders.saturating_sub(1) };
        if let Some(made) = made {
            self.drift.looked_at = Some(generation(&made));
            self.drift.changed = Look::default();
            self.workload(watcher::Event::Apply(made));
        }
    }

    /// The note that we still use the workload, when it is due.
    pub(super) fn renewing(&self, now: Timestamp) -> Option<(WorkloadKind, Value)> {
        let workload = self.workloads.objects.values().next()?;
        let notes = Marks::of(workload.metadata()).renewing(&self.us, now)?;
        Some((workload.kind(), notes))
    }

    /// It was removed by us, and nobody will miss it.
    pub(super) fn removed(&mut self) {
        self.drift.missing = None;
        self.drift.changed = Look::default();
    }

    /// The workload, when its options have changed since somebody looked.
    pub(super) fn look_due(&mut self) -> Option<Workload> {
        let workload = self.workloads.objects.values().next().filter(|_| self.drift.orders == 0)?;
        let now = generation(workload);
        (self.drift.looked_at.replace(now.clone()).as_ref() != Some(&now)).then(|| workload.clone())
    }

    /// What a look at `workload` found.
    pub(super) fn looked(&mut self, workload: &Workload, look: Look) {
        if self.drift.looked_at == Some(generation(workload)) {
            self.drift.changed = look;
        }
    }

    pub(super) fn pod(&mut self, event: watcher::Event<KubePod>) {
        let event = match &mut self.theirs {
            Some(theirs) => mapped(event, |pod| theirs.enter(pod)),
            None => event,
        };
        for gone in self.pods.take(event) {
            let name = gone.name_any();
            if let Some(theirs) = &mut self.theirs {
                theirs.left(&name);
            }
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

    /// The watch of what leads to the pods failed.
    pub(super) fn lead_failed(&mut self, why: String) {
        match &mut self.theirs {
            Some(theirs) => theirs.lead_failed(&mut self.workloads, why),
            None => self.workloads.failed(why),
        }
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

    /// The pods as the API server has them, in the order of their making.
    pub(super) fn pods_in_order(&self) -> Vec<&KubePod> {
        let mut pods: Vec<&KubePod> = self.pods.objects.values().collect();
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        pods
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
        let drift = self.drift.missing.clone().or_else(|| self.drift.changed.drift.clone());
        notes.extend(drift.as_ref().map(StoryLine::trouble));
        notes.dedup();
        let workload = self.workloads.objects.values().next();
        if let Some(theirs) = &self.theirs {
            return self.of_theirs(theirs, workload, notes);
        }
        Pods {
            known: self.disconnected.is_none() && self.pods.is_known() && self.workloads.is_known(),
            applied: !self.workloads.objects.is_empty(),
            pods: self.pods.objects.iter().filter_map(|(name, pod)| self.pod_snapshot(name, pod)).collect(),
            notes,
            ended: self.ended.clone(),
            drift,
            absent: self.workloads.is_known() && self.workloads.objects.is_empty(),
            sharing: workload.and_then(|found| Marks::of(found.metadata()).sharing(&self.us)),
            replicas: self.drift.changed.replicas,
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
fn time_of(event: &Event) -> Option<Timestamp> {
    let exact = event.event_time.as_ref().map(|time| time.0);
    exact.or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
}
