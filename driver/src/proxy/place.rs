//! The pod of one client connection: chosen once, by the first call that needs it, and again when that pod has gone.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::fleet::{Lease, NodeFleet, StartError};
use crate::placement::{Placing, StickyKey};
use crate::report;
use crate::wire::{Code, Status};

/// Shared by the calls of one client connection.
#[derive(Debug)]
pub(super) struct Place {
    fleet: Arc<NodeFleet>,
    placing: Placing,
    choice: Mutex<Arc<Choice>>,
}

/// One attempt to find a pod. All calls that wait for it share its outcome and its clock, whichever of them does the
/// waiting: a failed start fails a build once, not once for each of its calls.
#[derive(Debug)]
struct Choice {
    begun: Instant,
    outcome: OnceCell<Result<Arc<Lease>, Status>>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { begun: Instant::now(), outcome: OnceCell::new() }
    }
}

impl Choice {
    fn is_over(&self) -> bool {
        match self.outcome.get() {
            None => false,
            Some(Err(_)) => true,
            // Calls of a build that was under way on the old pod get their error from that pod; once no call holds it
            // any more, the connection is free to begin anew elsewhere.
            Some(Ok(lease)) => !lease.is_usable() && Arc::strong_count(lease) == 1,
        }
    }
}

impl Place {
    pub(super) fn new(fleet: Arc<NodeFleet>, key: StickyKey) -> Self {
        let placing = Placing { project: key, ..Placing::default() };
        Self { fleet, placing, choice: Mutex::default() }
    }

    pub(super) fn fleet(&self) -> &Arc<NodeFleet> {
        &self.fleet
    }

    /// The connection's pod; waits for one to start when none runs. All calls that wait get the same one.
    pub(super) async fn lease(&self) -> Result<Arc<Lease>, Status> {
        let choice = {
            let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
            let unused = choice.outcome.get().is_none() && Arc::strong_count(&choice) == 1;
            if choice.is_over() || unused {
                *choice = Arc::default();
            }
            Arc::clone(&choice)
        };
        let find = || async {
            let found = self.fleet.acquire(&self.placing, choice.begun).await;
            found.map(Arc::new).map_err(|error| status_of(&error))
        };
        choice.outcome.get_or_init(find).await.clone()
    }

    /// The connection's pod when one was chosen, without a wait.
    pub(super) fn chosen(&self) -> Option<Arc<Lease>> {
        let choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        choice.outcome.get()?.as_ref().ok().cloned()
    }

    /// Whether a pod was chosen that takes calls.
    pub(super) fn has_pod(&self) -> bool {
        self.chosen().is_some_and(|lease| lease.is_usable())
    }
}

fn status_of(error: &StartError) -> Status {
    let code = match error {
        StartError::Apply { .. } | StartError::TimedOut { .. } | StartError::Removed(_) | StartError::ShuttingDown => {
            Code::Unavailable
        }
    };
    // Other clients than ours print the message alone, so the hint goes with it.
    let hint = match error {
        StartError::Apply { source, .. } => source.hint().map(|hint| format!("\nhint: {hint}")),
        StartError::TimedOut { .. } | StartError::Removed(_) | StartError::ShuttingDown => None,
    };
    Status::new(code, report::chain(error) + &hint.unwrap_or_default())
}
