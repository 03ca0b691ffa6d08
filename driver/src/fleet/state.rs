//! What a fleet knows of its pods, under one lock.

use std::collections::BTreeMap;

use buildfleet_proto::buildkit::ListWorkersResponse;
use tokio::time::Instant;

use super::placements::Placements;
use super::upstream::Upstream;
use super::view::{Learned, Link, Wish};
use crate::backend::{PodPhase, Pods};
use crate::builder::{Platform, PodName};

#[derive(Debug)]
pub(super) struct State {
    pub(super) pods: Pods,
    pub(super) links: BTreeMap<PodName, Link>,
    pub(super) upstreams: BTreeMap<PodName, Upstream>,
    pub(super) workers: BTreeMap<PodName, ListWorkersResponse>,
    pub(super) learned: Learned,
    pub(super) wish: Wish,
    /// What ListWorkers answers before a pod was ever seen.
    pub(super) platforms: Vec<Platform>,
    pub(super) placements: Placements,
    /// When the backend last took an order for these pods from this process.
    pub(super) ordered: Option<Instant>,
}

impl State {
    /// A pod runs that was never asked to the end whether it answers.
    pub(super) fn is_unsettled(&self) -> bool {
        self.pods.pods.iter().any(|pod| pod.phase == PodPhase::Running && !self.links.contains_key(&pod.name))
    }

    pub(super) fn takes_work(&self, name: &PodName) -> bool {
        let running = self.pods.get(name).is_none_or(|pod| pod.phase == PodPhase::Running);
        running && self.upstreams.get(name).is_some_and(|upstream| !upstream.is_lost())
    }

    /// A pod that is told to go waits for nobody but those who have a lease there: connections that nobody uses would keep
    /// it, where it waits for them to end.
    pub(super) fn leave_if_unused(&self, name: &PodName) {
        let going = self.pods.get(name).is_some_and(|pod| pod.phase == PodPhase::Terminating);
        if let Some(upstream) = self.upstreams.get(name).filter(|upstream| going && *upstream.held().borrow() == 0) {
            upstream.give_up();
        }
    }

    pub(super) fn known_workers(&self) -> Option<ListWorkersResponse> {
        if self.workers.is_empty() {
            return self.learned.workers.clone();
        }
        let record = self.workers.values().flat_map(|workers| workers.record.iter().cloned()).collect();
        Some(ListWorkersResponse { record })
    }
}
