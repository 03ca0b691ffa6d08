//! Places on the node's pods: for a build on a ready one, for a question on any that answers.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::NodeFleet;
use crate::builder::PodName;
use crate::fleet::upstream::{Held, Upstream};
use crate::fleet::{Lease, StartError};
use crate::placement::{self, Candidate, Placing, StickyKey};

/// Right after a daemon's start, pods that run answer one after the other: a project whose pod is not the first of them
/// would lose its cache to a few milliseconds.
const SETTLED: Duration = Duration::from_secs(1);

impl NodeFleet {
    /// A ready pod for a build; starts the node's pods when none runs. Ends at the node's timeout after `begun`.
    ///
    /// # Errors
    /// As [`NodeFleet::ready`] for one pod.
    pub async fn acquire(self: &Arc<Self>, placing: &Placing, begun: Instant) -> Result<Lease, StartError> {
        let mut snapshots = self.watch();
        let wait = async {
            loop {
                snapshots.mark_unchanged();
                if begun.elapsed() < SETTLED && self.state().is_unsettled() {
                    let _ = tokio::time::timeout_at(begun + SETTLED, snapshots.changed()).await;
                    continue;
                }
                if let Some(lease) = self.lease(placing) {
                    return Ok(lease);
                }
                self.start_if_needed().await?;
                let _ = snapshots.wait_for(|snapshot| snapshot.ready > 0).await;
            }
        };
        self.bounded(wait, 1, begun, self.config.timeout).await
    }

    /// A ready pod for a build that goes to it by itself, as [`NodeFleet::acquire`]; it counts there as long as the lease is held.
    ///
    /// # Errors
    /// As [`NodeFleet::acquire`].
    pub async fn acquire_for(self: &Arc<Self>, project: &str, name: &str) -> Result<Lease, StartError> {
        let placing = Placing { build_ref: name.to_owned(), project: StickyKey::new(project), ..Placing::default() };
        self.acquire(&placing, Instant::now()).await
    }

    fn lease(self: &Arc<Self>, placing: &Placing) -> Option<Lease> {
        let mut state = self.state();
        let ready: Vec<Candidate> = state
            .upstreams
            .keys()
            .filter(|name| state.takes_work(name))
            .map(|name| Candidate { pod: name.clone(), running: state.links.get(name).map_or(0, |link| link.builds) })
            .collect();
        let random = RandomState::new().hash_one(());
        let chosen = placement::choose(self.config.loadbalance, placing, random, &ready)?;
        let upstream = state.upstreams.get(&chosen.pod)?.clone();
        state.placements.record(placing, &chosen, SystemTime::now());
        if !placing.internal {
            state.links.entry(chosen.pod).or_default().builds += 1;
        }
        self.publish(&state);
        Some(Lease::new(Arc::clone(self), upstream, !placing.internal, chosen.because))
    }

    /// A way to a pod, whether it takes new work or not; counts as no load.
    pub fn visit(self: &Arc<Self>, pod: &PodName) -> Option<Lease> {
        let state = self.state();
        let upstream = state.upstreams.get(pod).filter(|upstream| !upstream.is_lost())?.clone();
        Some(Lease::new(Arc::clone(self), upstream, false, String::new()))
    }

    /// The pods that can be asked something now.
    pub fn reachable(&self) -> Vec<PodName> {
        let state = self.state();
        state.upstreams.iter().filter(|(_, upstream)| !upstream.is_lost()).map(|(name, _)| name.clone()).collect()
    }

    /// The other end of a lease.
    pub(in crate::fleet) fn released(&self, pod: &PodName, held: &Held, counted: bool) {
        self.update(|state| {
            held.send_modify(|held| *held = held.saturating_sub(1));
            if let (true, Some(link)) = (counted, state.links.get_mut(pod)) {
                link.builds = link.builds.saturating_sub(1);
            }
            state.leave_if_unused(pod);
        });
    }

    /// The present connection to a pod, when it is still the same `buildkitd`, and whether that takes new work.
    pub(in crate::fleet) fn present(&self, pod: &PodName, incarnation: u64) -> Option<(Upstream, bool)> {
        let state = self.state();
        let upstream = state.upstreams.get(pod).filter(|upstream| upstream.incarnation == incarnation)?;
        Some((upstream.clone(), state.takes_work(pod)))
    }
}
