//! A task that belongs to a value: it ends with it, and its end can be awaited.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns one task. Dropping it asks the task to end.
#[derive(Debug)]
pub(super) struct Owned {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Owned {
    /// Runs the task that `make` returns; it has to end soon after the token it is given is cancelled.
    pub(super) fn spawn<F>(make: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(make(stop.clone()));
        tasks.close();
        Self { stop, tasks }
    }

    /// Asks the task to end and waits until it has.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
