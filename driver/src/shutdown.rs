//! Drain with guards and a deadline: a first request to stop lets work end, a second one or the deadline aborts it.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by everything that runs in the daemon.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    aborted: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything to come to its end; listeners stop at once.
    pub fn drain(&self) {
        self.draining.cancel();
        self.tasks.close();
    }

    /// Ends everything now.
    pub fn abort(&self) {
        self.drain();
        self.aborted.cancel();
    }

    /// Resolves when draining has begun.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when everything has to end now.
    pub async fn aborted(&self) {
        self.aborted.cancelled().await;
    }

    /// Runs a task that the drain waits for and that an abort drops.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let aborted = self.aborted.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = aborted.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Waits until every task has ended, at most `deadline` after the drain began; then aborts the rest. True when
    /// nothing had to be aborted.
    pub async fn finished(&self, deadline: Duration) -> bool {
        let done = tokio::select! {
            () = self.tasks.wait() => true,
            () = self.aborted.cancelled() => false,
            () = tokio::time::sleep(deadline) => false,
        };
        if !done {
            self.abort();
            self.tasks.wait().await;
        }
        done && !self.aborted.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_its_tasks() {
        let shutdown = Shutdown::new();
        shutdown.spawn(tokio::time::sleep(Duration::from_secs(3)));
        shutdown.drain();
        assert!(shutdown.finished(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_aborts_what_has_not_ended() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending());
        shutdown.drain();
        assert!(!shutdown.finished(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_aborts_at_once() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending());
        shutdown.drain();
        shutdown.abort();
        let begun = tokio::time::Instant::now();
        assert!(!shutdown.finished(Duration::from_secs(3600)).await);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
