//! One node's fleet: what it is made of, and what is known of it.

mod books;
mod orders;
mod places;
mod roll;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buildfleet_proto::buildkit::ListWorkersResponse;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::placements::Placements;
use super::state::State;
use super::view::{Learned, Wish, expected_workers, snapshot};
use super::{NodeSnapshot, Placement, Remembered, follow};
use crate::backend::{DeleteError, PodPhase, Removal, Removed, SharedBackend};
use crate::builder::{NodeName, Platform};
use crate::options::LoadBalance;
use crate::shutdown::Shutdown;

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
    /// Held while a pod is asked what its gateway can do.
    ping_turn: tokio::sync::Mutex<()>,
    shutdown: Shutdown,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl NodeFleet {
    /// Starts to follow the backend's pods and to ask the running ones whether they answer. Starts no pod.
    pub fn start(config: FleetConfig, backend: SharedBackend, shutdown: Shutdown) -> Arc<Self> {
        let wish = Wish { stopped: config.remembered.stopped, wanted: config.replicas, trouble: None, ordered: false };
        let state = State {
            pods: backend.pods().borrow().clone(),
            links: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            workers: BTreeMap::new(),
            learned: Learned { workers: config.remembered.workers.clone(), ping: config.remembered.ping.clone() },
            wish,
            platforms: config.platforms.clone(),
            placements: Placements::default(),
            ordered: None,
        };
        let fleet = Arc::new(Self {
            config,
            backend,
            state: Mutex::new(state),
            snapshot: watch::Sender::new(NodeSnapshot::default()),
            order: tokio::sync::Mutex::new(()),
            ping_turn: tokio::sync::Mutex::new(()),
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

    /// How pods are chosen.
    pub fn loadbalance(&self) -> LoadBalance {
        self.config.loadbalance
    }

    /// Where the latest builds went, newest first.
    pub fn placements(&self) -> Vec<Placement> {
        self.state().placements.latest()
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

    /// What a pod last answered to LLBBridge.Ping; waits until one has answered when none ever did.
    pub(crate) async fn ping_answer(&self, patience: Duration) -> Option<Bytes> {
        let mut snapshots = self.watch();
        let learned = snapshots.wait_for(|snapshot| snapshot.remembered.ping.is_some());
        let snapshot = tokio::time::timeout(patience, learned).await.ok()?.ok()?;
        snapshot.remembered.ping.as_ref().map(|ping| ping.answer.clone())
    }

    /// Whether no pod runs or is on its way.
    pub fn is_idle(&self) -> bool {
        self.state().pods.pods.iter().all(|pod| pod.phase == PodPhase::Terminating)
    }

    /// Removes what the node has in its backend, and ends the fleet's own tasks and connections.
    ///
    /// # Errors
    /// When something is left behind; the fleet goes on then.
    pub async fn delete(&self, removal: Removal) -> Result<Removed, DeleteError> {
        let _one_at_a_time = self.order.lock().await;
        let removed = self.backend.delete(removal).await?;
        self.close().await;
        Ok(removed)
    }

    /// Ends the fleet's own tasks and connections; the pods stay.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE, self.tasks.wait()).await.is_err() {
            tracing::warn!(node = %self.config.node, "connections to pods did not close in time");
        }
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
}
