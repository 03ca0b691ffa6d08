//! One node's fleet: orders to the backend, the choice of a ready pod, and the wait for one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buildfleet_proto::buildkit::ListWorkersResponse;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::state::State;
use super::upstream::Upstream;
use super::view::{Learned, Wish, expected_workers, last_words, snapshot};
use super::{Lease, NodeSnapshot, Remembered, StartError, follow};
use crate::backend::{ApplyError, DeleteError, PodPhase, Pods, SharedBackend};
use crate::builder::{NodeName, Platform, PodName};
use crate::options::LoadBalance;
use crate::placement::{self, Candidate, Placing};
use crate::report;
use crate::shutdown::Shutdown;

/// How long a fresh daemon waits for the backend's first look before it gives orders on suspicion.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Right after a daemon's start, pods that run answer one after the other: a project whose pod is not the first of them
/// would lose its cache to a few milliseconds.
const SETTLED: Duration = Duration::from_secs(1);

/// By then an order shows in what the backend sees; before, its absence means nothing.
const SEEN: Duration = Duration::from_secs(5);

/// What a closing fleet gives its own tasks; they only drop connections.
const CLOSE: Duration = Duration::from_secs(2);

/// What a fleet needs to know of its node.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    pub node: NodeName,
    pub replicas: u32,
    pub loadbalance: LoadBalance,
    /// How long a start may take.
    pub timeout: Duration,
    /// Given by `--platform`; what ListWorkers answers before a pod was ever seen.
    pub platforms: Vec<Platform>,
    /// What the pods said of themselves when they were last seen, perhaps by an earlier daemon.
    pub remembered: Remembered,
}

/// One node's pods, shared by its sockets and the daemon's API.
#[derive(Debug)]
pub struct NodeFleet {
    config: FleetConfig,
    backend: SharedBackend,
    state: Mutex<State>,
    snapshot: watch::Sender<NodeSnapshot>,
    /// Held while an order is given, so that two first builds give one.
    order: tokio::sync::Mutex<()>,
    shutdown: Shutdown,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl NodeFleet {
    /// Starts to follow the backend's pods and to ask the running ones whether they answer. Starts no pod.
    pub fn start(config: FleetConfig, backend: SharedBackend, shutdown: Shutdown) -> Arc<Self> {
        let wish = Wish { stopped: config.remembered.stopped, wanted: config.replicas, trouble: None };
        let state = State {
            pods: backend.pods().borrow().clone(),
            links: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            workers: BTreeMap::new(),
            learned: Learned { workers: config.remembered.workers.clone(), ping: config.remembered.ping.clone() },
            wish,
            platforms: config.platforms.clone(),
            ordered: None,
        };
        let fleet = Arc::new(Self {
            config,
            backend,
            state: Mutex::new(state),
            snapshot: watch::Sender::new(NodeSnapshot::default()),
            order: tokio::sync::Mutex::new(()),
            shutdown,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        fleet.publish(&fleet.state());
        fleet.tasks.spawn(follow::follow(Arc::clone(&fleet), fleet.closing.clone()));
        fleet
    }

    pub fn name(&self) -> &NodeName {
        &self.config.node
    }

    /// The snapshot now, and every later one.
    pub fn watch(&self) -> watch::Receiver<NodeSnapshot> {
        self.snapshot.subscribe()
    }

    pub fn backend(&self) -> &SharedBackend {
        &self.backend
    }

    /// What the pods' workers are, or were when last seen, or may be; never asks anybody.
    pub fn workers(&self) -> ListWorkersResponse {
        let state = self.state();
        state.known_workers().unwrap_or_else(|| expected_workers(&self.config.node, &state.platforms))
    }

    /// Another node of the builder has taken platforms over, or given them back.
    pub fn expect_platforms(&self, platforms: &[Platform]) {
        self.update(|state| state.platforms = platforms.to_vec());
    }

    /// What a pod last answered to LLBBridge.Ping.
    pub(crate) fn remembered_ping(&self) -> Option<Bytes> {
        self.state().learned.ping.clone()
    }

    pub(crate) fn remember_ping(&self, answer: Bytes) {
        self.update(|state| state.learned.ping = Some(answer));
    }

    /// Whether no pod runs or is on its way.
    pub fn is_idle(&self) -> bool {
        self.state().pods.pods.iter().all(|pod| pod.phase == PodPhase::Terminating)
    }

    /// Starts the node's pods; returns when the backend has taken the order.
    ///
    /// # Errors
    /// When the backend refuses it or cannot be reached.
    pub async fn start_pods(&self) -> Result<(), StartError> {
        let _one_at_a_time = self.order.lock().await;
        self.give_order().await
    }

    /// Starts the node's pods and waits until `all` of them, or else one, answer. The story of the wait is in the
    /// snapshots.
    ///
    /// # Errors
    /// When the order fails, or at the end of `timeout` (else the node's) with the story so far.
    pub async fn ready(&self, all: bool, timeout: Option<Duration>) -> Result<(), StartError> {
        let begun = Instant::now();
        let timeout = timeout.unwrap_or(self.config.timeout);
        let mut snapshots = self.watch();
        let wanted = if all { self.config.replicas } else { 1 };
        let wait = async {
            self.start_pods().await?;
            // Only `self` drops the sender, so the wait ends with a snapshot.
            let _ = snapshots.wait_for(|snapshot| snapshot.ready >= wanted).await;
            Ok(())
        };
        self.bounded(wait, wanted, begun, timeout).await
    }

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

    /// Scales to zero; the next build starts the pods again.
    ///
    /// # Errors
    /// When the backend refuses it or cannot be reached.
    pub async fn stop_pods(&self) -> Result<(), ApplyError> {
        let _one_at_a_time = self.order.lock().await;
        self.backend.apply(0).await?;
        self.update(|state| {
            state.wish.stopped = true;
            state.wish.trouble = None;
            state.ordered = None;
        });
        // Whoever asks right after must not hear of pods that are about to be told to go.
        let _ = tokio::time::timeout(SEEN, self.watch().wait_for(|snapshot| snapshot.ready == 0)).await;
        Ok(())
    }

    /// Removes all that the node has in its backend, and ends the fleet's own tasks and connections.
    ///
    /// # Errors
    /// When something is left behind; the fleet goes on then.
    pub async fn delete(&self) -> Result<(), DeleteError> {
        let _one_at_a_time = self.order.lock().await;
        self.backend.delete().await?;
        self.close().await;
        Ok(())
    }

    /// Ends the fleet's own tasks and connections; the pods stay.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE, self.tasks.wait()).await.is_err() {
            tracing::warn!(node = %self.config.node, "connections to pods did not close in time");
        }
    }

    async fn bounded<T>(
        &self,
        wait: impl Future<Output = Result<T, StartError>>,
        wanted: u32,
        begun: Instant,
        timeout: Duration,
    ) -> Result<T, StartError> {
        tokio::select! {
            // In this order: once the node is removed, no client may bring its objects back.
            biased;
            () = self.closing.cancelled() => Err(StartError::Removed(self.config.node.clone())),
            () = self.shutdown.draining() => Err(StartError::ShuttingDown),
            done = wait => done,
            () = tokio::time::sleep_until(begun + timeout) => {
                let snapshot = self.snapshot.borrow().clone();
                Err(StartError::TimedOut {
                    node: self.config.node.clone(),
                    ready: snapshot.ready,
                    wanted,
                    waited: begun.elapsed(),
                    story: last_words(&snapshot),
                })
            }
        }
    }

    /// Gives an order unless pods are known to be on their way.
    async fn start_if_needed(&self) -> Result<(), StartError> {
        let _one_at_a_time = self.order.lock().await;
        if !self.state().wish.stopped {
            let mut pods = self.backend.pods();
            let _ = tokio::time::timeout(FIRST_LOOK, pods.wait_for(|pods| pods.known)).await;
        }
        let under_way = {
            let state = self.state();
            let there = state.pods.pods.iter().any(|pod| pod.phase != PodPhase::Terminating);
            let fresh = state.ordered.is_some_and(|ordered| ordered.elapsed() < SEEN);
            !state.wish.stopped && (fresh || state.pods.applied && (state.ordered.is_some() || there))
        };
        if under_way { Ok(()) } else { self.give_order().await }
    }

    async fn give_order(&self) -> Result<(), StartError> {
        self.update(|state| {
            state.wish.stopped = false;
            state.wish.trouble = None;
        });
        let result = self.backend.apply(self.config.replicas).await;
        self.update(|state| {
            state.ordered = result.is_ok().then(Instant::now);
            state.wish.trouble = result.as_ref().err().map(|error| report::chain(error));
        });
        result.map_err(|source| StartError::Apply { node: self.config.node.clone(), source })
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
        if !placing.internal {
            state.links.entry(chosen.pod).or_default().builds += 1;
        }
        self.publish(&state);
        Some(Lease::new(Arc::clone(self), upstream, !placing.internal, chosen.because))
    }

    /// A way to a pod, whether it takes new work or not; counts as no load.
    pub fn visit(self: &Arc<Self>, pod: &PodName) -> Option<Lease> {
        let upstream = self.state().upstreams.get(pod).filter(|upstream| !upstream.is_lost())?.clone();
        Some(Lease::new(Arc::clone(self), upstream, false, String::new()))
    }

    /// The pods that can be asked something now.
    pub fn reachable(&self) -> Vec<PodName> {
        let state = self.state();
        state.upstreams.iter().filter(|(_, upstream)| !upstream.is_lost()).map(|(name, _)| name.clone()).collect()
    }

    /// The other end of a lease: one build less on its pod.
    pub(super) fn released(&self, pod: &PodName) {
        self.update(|state| {
            if let Some(link) = state.links.get_mut(pod) {
                link.builds = link.builds.saturating_sub(1);
            }
        });
    }

    /// The present connection to a pod, when it is still the same `buildkitd`, and whether that takes new work.
    pub(super) fn present(&self, pod: &PodName, incarnation: u64) -> Option<(Upstream, bool)> {
        let state = self.state();
        let upstream = state.upstreams.get(pod).filter(|upstream| upstream.incarnation == incarnation)?;
        Some((upstream.clone(), state.takes_work(pod)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.publish(&state);
        result
    }

    /// Called with the state locked, so that snapshots come in the order of the changes.
    fn publish(&self, state: &State) {
        let next = snapshot(&state.pods, &state.links, &state.wish, state.learned.clone());
        self.snapshot.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
    }

    /// The backend's new look. Returns the pods that may be dialled, with their incarnations.
    pub(super) fn saw(&self, pods: Pods) -> Vec<(PodName, u64)> {
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
            let running = state.pods.pods.iter().filter(|pod| pod.phase == PodPhase::Running);
            running.map(|pod| (pod.name.clone(), pod.incarnation)).collect()
        })
    }

    pub(super) fn answered(&self, upstream: &Upstream, workers: ListWorkersResponse) {
        self.update(|state| {
            let link = state.links.entry(upstream.pod.clone()).or_default();
            link.transport = Some(upstream.transport);
            link.trouble = None;
            state.upstreams.insert(upstream.pod.clone(), upstream.clone());
            state.workers.insert(upstream.pod.clone(), workers);
            state.learned.workers = state.known_workers();
        });
    }

    pub(super) fn failed(&self, pod: &PodName, trouble: String) {
        self.update(|state| {
            let link = state.links.entry(pod.clone()).or_default();
            link.transport = None;
            link.trouble = Some(trouble);
        });
    }

    pub(super) fn lost(&self, upstream: &Upstream) {
        upstream.give_up();
        self.update(|state| {
            // The task of an earlier incarnation may end after the next one has answered.
            if state.upstreams.get(&upstream.pod).is_none_or(|present| present.incarnation != upstream.incarnation) {
                return;
            }
            state.upstreams.remove(&upstream.pod);
            state.workers.remove(&upstream.pod);
            if let Some(link) = state.links.get_mut(&upstream.pod) {
                link.transport = None;
            }
        });
    }
}
