//! The end of a build, as its other calls hear of it.

use std::time::Duration;

use super::{Build, Stage};
use crate::wire::{Code, Status};

/// What a pod says last of a build comes beside its answer to Solve, or a moment later.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Build {
    /// Resolves when the build is over, with what a call hears then that still wants something.
    pub(super) async fn over(&self) -> Status {
        let mut stage = self.stage();
        let over = stage.wait_for(|stage| matches!(stage, Stage::Over(_))).await;
        let status = over.ok().and_then(|over| if let Stage::Over(status) = &*over { status.clone() } else { None });
        // In BuildKit's words, where the build ended without any of ours.
        status.unwrap_or_else(|| Status::new(Code::NotFound, format!("no such job {}", self.reference())))
    }

    /// The same when its pod has had the time to answer what it was asked before. A pod that refused the build never knew it,
    /// and looks for it for seconds.
    pub(in crate::proxy) async fn left_behind(&self) -> Status {
        let status = self.over().await;
        tokio::time::sleep(LAST_WORDS).await;
        status
    }
}
