//! Orders to the backend, and the wait until pods answer.

use std::time::Duration;

use tokio::time::Instant;

use super::NodeFleet;
use crate::backend::{ApplyError, PodPhase};
use crate::fleet::StartError;
use crate::fleet::view::last_words;
use crate::report;

/// How long a fresh daemon waits for the backend's first look before it gives orders on suspicion.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// By then an order shows in what the backend sees; before, its absence means nothing.
const SEEN: Duration = Duration::from_secs(5);

impl NodeFleet {
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
        let theirs = self.state().pods.replicas.filter(|replicas| *replicas > 0);
        let wanted = if all { theirs.unwrap_or(self.config.replicas) } else { 1 };
        let wait = async {
            self.start_pods().await?;
            // Only `self` drops the sender, so the wait ends with a snapshot.
            let _ = snapshots.wait_for(|snapshot| snapshot.ready >= wanted).await;
            Ok(())
        };
        self.bounded(wait, wanted, begun, timeout).await
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

    pub(super) async fn bounded<T>(
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
    pub(super) async fn start_if_needed(&self) -> Result<(), StartError> {
        let _one_at_a_time = self.order.lock().await;
        if !self.state().wish.stopped {
            let mut pods = self.backend.pods();
            let _ = tokio::time::timeout(FIRST_LOOK, pods.wait_for(|pods| pods.known)).await;
        }
        let under_way = {
            let state = self.state();
            let there = state.pods.pods.iter().any(|pod| pod.phase != PodPhase::Terminating);
            // What somebody has removed since was seen before.
            let lost = state.pods.drift.is_some() && !state.pods.applied;
            let fresh = !lost && state.ordered.is_some_and(|ordered| ordered.elapsed() < SEEN);
            !state.wish.stopped && (fresh || state.pods.applied && (state.ordered.is_some() || there))
        };
        if under_way { Ok(()) } else { self.give_order().await }
    }

    async fn give_order(&self) -> Result<(), StartError> {
        self.update(|state| {
            state.wish.stopped = false;
            state.wish.trouble = None;
            state.wish.ordered = true;
        });
        let result = self.backend.apply(self.config.replicas).await;
        self.update(|state| {
            state.ordered = result.is_ok().then(Instant::now);
            state.wish.trouble = result.as_ref().err().map(|error| report::chain(error));
        });
        result.map_err(|source| StartError::Apply { node: self.config.node.clone(), source })
    }
}
