//! What is entered of a node's pods: the backend's looks, their answers, and the loss of a connection.

use buildfleet_proto::buildkit::ListWorkersResponse;
use tokio::sync::MutexGuard;

use super::NodeFleet;
use crate::backend::{PodPhase, Pods};
use crate::builder::PodName;
use crate::fleet::PingAnswer;
use crate::fleet::upstream::Upstream;

impl NodeFleet {
    /// The backend's new look. Returns the pods that may be dialled, with their incarnations.
    pub(in crate::fleet) fn saw(&self, pods: Pods) -> Vec<(PodName, u64)> {
        self.update(|state| {
            for (name, upstream) in &state.upstreams {
                let alive = pods.get(name).is_some_and(|pod| {
                    pod.incarnation == upstream.incarnation
                        && matches!(pod.phase, PodPhase::Running | PodPhase::Terminating)
                });
                if pods.known && !alive {
                    upstream.give_up();
                }
            }
            if pods.known {
                state.links.retain(|name, link| pods.get(name).is_some() || link.builds > 0);
            }
            state.pods = pods;
            state.upstreams.keys().for_each(|name| state.leave_if_unused(name));
            let running = state.pods.pods.iter().filter(|pod| pod.phase == PodPhase::Running);
            running.map(|pod| (pod.name.clone(), pod.incarnation)).collect()
        })
    }

    pub(in crate::fleet) fn answered(&self, upstream: &Upstream, workers: ListWorkersResponse) {
        self.update(|state| {
            let link = state.links.entry(upstream.pod.clone()).or_default();
            link.transport = Some(upstream.transport);
            link.trouble = None;
            link.remark = None;
            state.upstreams.insert(upstream.pod.clone(), upstream.clone());
            state.workers.insert(upstream.pod.clone(), workers);
            state.learned.workers = state.known_workers();
            // It may have been told to go since it was dialled.
            state.leave_if_unused(&upstream.pod);
        });
    }

    /// For whoever wants to ask a pod what its gateway can do.
    pub(in crate::fleet) async fn ping_turn(&self) -> MutexGuard<'_, ()> {
        self.ping_turn.lock().await
    }

    pub(in crate::fleet) fn knows_ping_of(&self, version: &str) -> bool {
        self.state().learned.ping.as_ref().is_some_and(|ping| ping.version == version)
    }

    pub(in crate::fleet) fn learned_ping(&self, ping: PingAnswer) {
        self.update(|state| state.learned.ping = Some(ping));
    }

    pub(in crate::fleet) fn failed(&self, pod: &PodName, trouble: String) {
        self.update(|state| {
            let link = state.links.entry(pod.clone()).or_default();
            link.transport = None;
            link.trouble = Some(trouble);
        });
    }

    pub(in crate::fleet) fn lost(&self, upstream: &Upstream) {
        upstream.give_up();
        self.update(|state| {
            // The task of an earlier incarnation may end after the next one has answered.
            if state.upstreams.get(&upstream.pod).is_none_or(|present| present.incarnation != upstream.incarnation) {
                return;
            }
            state.upstreams.remove(&upstream.pod);
            state.workers.remove(&upstream.pod);
            // Of pods that were replaced, the last ones count; when none is left, what was said last.
            state.learned.workers = state.known_workers();
            if let Some(link) = state.links.get_mut(&upstream.pod) {
                link.transport = None;
            }
        });
    }
}
