//! The pod of one client connection: chosen once, by the first call that needs it, and again when that pod has gone.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::fleet::{Lease, NodeFleet, StartError};
use crate::placement::StickyKey;
use crate::report;
use crate::wire::{Code, Status};

/// Shared by the calls of one client connection.
#[derive(Debug)]
pub(super) struct Place {
    fleet: Arc<NodeFleet>,
    key: StickyKey,
    chosen: Mutex<Arc<OnceCell<Arc<Lease>>>>,
}

impl Place {
    pub(super) fn new(fleet: Arc<NodeFleet>, key: StickyKey) -> Self {
        Self { fleet, key, chosen: Mutex::default() }
    }

    pub(super) fn fleet(&self) -> &Arc<NodeFleet> {
        &self.fleet
    }

    /// The connection's pod; waits for one to start when none runs. All calls that wait get the same one.
    pub(super) async fn lease(&self) -> Result<Arc<Lease>, Status> {
        let cell = self.current();
        let lease = cell.get_or_try_init(|| async { self.fleet.acquire(&self.key).await.map(Arc::new) });
        lease.await.cloned().map_err(|error| status_of(&error))
    }

    /// The connection's pod when one was chosen, without a wait.
    pub(super) fn chosen(&self) -> Option<Arc<Lease>> {
        self.current().get().cloned()
    }

    /// Whether a pod was chosen that takes calls.
    pub(super) fn has_pod(&self) -> bool {
        self.chosen().is_some_and(|lease| lease.is_usable())
    }

    fn current(&self) -> Arc<OnceCell<Arc<Lease>>> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        // Calls of a build that was under way on the old pod get their error from that pod; once no call holds it any
        // more, the connection is free to begin anew elsewhere.
        let abandoned = chosen.get().is_some_and(|lease| !lease.is_usable() && Arc::strong_count(lease) == 1);
        if abandoned {
            *chosen = Arc::default();
        }
        Arc::clone(&chosen)
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
