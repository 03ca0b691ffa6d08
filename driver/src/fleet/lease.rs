//! A build's place on a pod, and what to say when that pod ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;

use super::NodeFleet;
use super::bulk::Bulk;
use super::upstream::{Held, Loss, Upstream};
use crate::backend::{Pod, PodPhase, Pods, Transport};
use crate::builder::PodName;

/// How long an error waits for the backend to say how a pod ended. With the time to notice, it stays below 3 s.
const FATE: Duration = Duration::from_millis(1500);

/// A place on a pod, counted as one running build until it is dropped, unless it is a mere visit.
#[derive(Debug)]
pub struct Lease {
    fleet: Arc<NodeFleet>,
    /// The connection that was last used: another one after the first was lost, when the pod lives on.
    upstream: Mutex<Upstream>,
    pod: PodName,
    incarnation: u64,
    held: Held,
    counted: bool,
    because: String,
}

impl Lease {
    /// Made with the fleet's books locked; a build is counted there by who makes its lease.
    pub(super) fn new(fleet: Arc<NodeFleet>, upstream: Upstream, counted: bool, because: String) -> Self {
        let (pod, incarnation) = (upstream.pod.clone(), upstream.incarnation);
        let held = Arc::clone(upstream.held());
        held.send_modify(|held| *held += 1);
        Self { fleet, upstream: Mutex::new(upstream), pod, incarnation, held, counted, because }
    }

    /// Why this pod was chosen, in words for the user; empty for a visit.
    pub fn because(&self) -> &str {
        &self.because
    }

    /// Tells one `buildkitd` from the next one in the same pod.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub fn pod(&self) -> &PodName {
        &self.pod
    }

    /// Whether the pod may still take new calls.
    pub(crate) fn is_usable(&self) -> bool {
        self.fleet.present(&self.pod, self.incarnation).is_some_and(|(_, takes_work)| takes_work)
    }

    /// A handle for one call, on the pod's present connection when the first one was lost and the pod lives on.
    pub(crate) async fn requests(&self) -> Result<SendRequest<Bytes>, h2::Error> {
        self.upstream().requests().await
    }

    /// Why the pod did not answer, for users to see beside it; `None` once it has.
    pub(crate) fn remark(&self, why: Option<&str>) {
        self.fleet.remark(self.pod(), why);
    }

    /// A place for a stream that carries much, as a Session does: apart from the small calls of other builds.
    pub(crate) async fn bulk(&self) -> Result<Bulk, h2::Error> {
        self.upstream().bulk().await
    }

    fn upstream(&self) -> Upstream {
        let present = self.fleet.present(&self.pod, self.incarnation);
        let mut last = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((present, _)) = present {
            *last = present;
        }
        last.clone()
    }

    /// What became of the pod, after a call on it failed: waits a moment for the backend's word, unless the pod was given up
    /// because it is silent: then nothing more will be heard of it soon.
    pub(crate) async fn fate(&self) -> Fate {
        let upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut pods = self.fleet.backend().pods();
        let look = |pods: &Pods| fate_of(pods, &self.pod, self.incarnation);
        let told = async {
            let told = pods.wait_for(|pods| matches!(look(pods), Some(Fate { certain: true, .. }))).await;
            told.is_ok()
        };
        let silent = async {
            upstream.lost().await;
            match upstream.loss() {
                Some(Loss::Silent(_)) => {}
                Some(Loss::Broken) | None => std::future::pending().await,
            }
        };
        let certain = tokio::select! {
            biased;
            told = told => told,
            () = silent => false,
            () = tokio::time::sleep(FATE) => false,
        };
        let pods = self.fleet.backend().pods();
        let pods = pods.borrow();
        let last = look(&pods);
        match (last, upstream.loss()) {
            (Some(fate), _) if fate.certain => fate,
            (_, Some(Loss::Silent(silent))) => silent_for(&pods, &self.pod, *silent),
            (Some(fate), _) => fate,
            (None, _) => lost_by(&self.pod, upstream.transport, certain),
        }
    }

    /// What the pod's state adds to an error that it reported itself; `None` while it is well.
    pub(crate) fn trouble(&self) -> Option<Fate> {
        fate_of(&self.fleet.backend().pods().borrow(), &self.pod, self.incarnation)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.fleet.released(&self.pod, &self.held, self.counted);
    }
}

/// What became of a pod, in words that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) text: String,
    /// The end itself is known, not only that one is near.
    certain: bool,
}

/// A pod of which nothing is heard: its backend may take minutes to notice that.
fn silent_for(pods: &Pods, name: &PodName, silent: Duration) -> Fate {
    let host = pods.get(name).map(on_host).unwrap_or_default();
    Fate { text: format!("pod {name}{host} has not answered for {:.1} s", silent.as_secs_f32()), certain: true }
}

/// A pod that runs, as far as its backend knows.
fn lost_by(name: &PodName, transport: Transport, certain: bool) -> Fate {
    let how = match transport {
        Transport::PortForward | Transport::Exec => {
            format!("went through the API server ({transport}); the pod itself may run")
        }
        Transport::Ssh | Transport::Container => {
            format!("went through a command ({transport}); the pod itself may run")
        }
        Transport::PodIp | Transport::Unix | Transport::Tcp => "still runs".to_owned(),
    };
    Fate { text: format!("lost the connection to pod {name}, which {how}"), certain }
}

fn on_host(pod: &Pod) -> String {
    pod.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default()
}

/// `None` while the pod runs in this incarnation.
fn fate_of(pods: &Pods, name: &PodName, incarnation: u64) -> Option<Fate> {
    let end = |how: Option<String>| match how {
        Some(how) => Fate { text: format!("pod {name} has ended: {how}"), certain: true },
        None => Fate { text: format!("pod {name} has ended"), certain: false },
    };
    let Some(pod) = pods.get(name) else {
        return Some(end(pods.ended.get(name).map(ToString::to_string)));
    };
    let host = on_host(pod);
    let told = pod.last_end.as_ref().map(ToString::to_string);
    match pod.phase {
        PodPhase::Running if pod.incarnation == incarnation => None,
        PodPhase::Running | PodPhase::Failed | PodPhase::Pending => {
            let how = told.unwrap_or_else(|| "for an unknown reason".to_owned());
            let text = format!("buildkitd in pod {name}{host} has ended: {how}");
            Some(Fate { text, certain: pod.last_end.is_some() })
        }
        PodPhase::Terminating => {
            let how = pod.story.iter().rev().find(|line| line.trouble).map_or("it was deleted", |line| &line.text);
            let how = told.as_deref().unwrap_or(how);
            Some(Fate { text: format!("pod {name}{host} is going: {how}"), certain: true })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{PodEnd, StoryLine};

    fn pod(phase: PodPhase, incarnation: u64) -> Pod {
        Pod {
            name: "kube0-a".parse().unwrap(),
            phase,
            incarnation,
            host: Some("node-1".to_owned()),
            started: None,
            story: Vec::new(),
            last_end: None,
        }
    }

    fn ended(mut pod: Pod, reason: &str) -> Pod {
        pod.last_end = Some(PodEnd { reason: reason.to_owned(), detail: None });
        pod
    }

    fn told(mut pod: Pod, story: &str) -> Pod {
        pod.story = vec![StoryLine::plain("scheduled on node-1"), StoryLine::trouble(story)];
        pod
    }

    #[test]
    fn the_fate_of_a_pod_names_it_and_the_reason() {
        use PodPhase::{Failed, Pending, Running, Terminating};
        for (pod, wanted) in [
            (pod(Running, 1), None),
            (pod(Running, 2), Some("buildkitd in pod kube0-a on node-1 has ended: for an unknown reason")),
            (ended(pod(Running, 2), "OOMKilled"), Some("buildkitd in pod kube0-a on node-1 has ended: OOMKilled")),
            (ended(pod(Failed, 1), "exit code 1"), Some("buildkitd in pod kube0-a on node-1 has ended: exit code 1")),
            (ended(pod(Pending, 1), "Evicted"), Some("buildkitd in pod kube0-a on node-1 has ended: Evicted")),
            (pod(Terminating, 1), Some("pod kube0-a on node-1 is going: it was deleted")),
            (told(pod(Terminating, 1), "drained"), Some("pod kube0-a on node-1 is going: drained")),
        ] {
            let name = pod.name.clone();
            let pods = Pods { known: true, pods: vec![pod], ..Pods::default() };
            assert_eq!(fate_of(&pods, &name, 1).map(|fate| fate.text).as_deref(), wanted, "{pods:?}");
        }
    }

    #[test]
    fn the_fate_of_a_pod_that_vanished_is_certain_once_its_end_is_known() {
        let name: PodName = "kube0-a".parse().unwrap();
        let mut pods = Pods { known: true, ..Pods::default() };
        let before = fate_of(&pods, &name, 1).unwrap();
        assert_eq!((before.text.as_str(), before.certain), ("pod kube0-a has ended", false));
        pods.ended.insert(name.clone(), PodEnd { reason: "deleted".into(), detail: Some("by admin".into()) });
        let after = fate_of(&pods, &name, 1).unwrap();
        assert_eq!((after.text.as_str(), after.certain), ("pod kube0-a has ended: deleted: by admin", true));
    }
}
