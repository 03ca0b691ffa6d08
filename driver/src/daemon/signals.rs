//! Signals into a shutdown: the first one drains, a second one aborts.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::shutdown::Shutdown;

/// The signals that a daemon listens for.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Whether the end of a terminal is the end of the daemon.
    has_terminal: bool,
}

impl Signals {
    /// Takes the signals over from the system's defaults.
    pub(super) fn listen(on_demand: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: !on_demand,
        })
    }

    /// Hands signals on until it is dropped.
    pub(super) async fn forward(mut self, shutdown: &Shutdown) {
        loop {
            let name = self.next().await;
            if shutdown.is_draining() {
                tracing::warn!(signal = name, "aborting");
                shutdown.abort();
            } else {
                tracing::info!(signal = name, "draining; another signal aborts");
                shutdown.drain();
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => return "SIGTERM",
                Some(()) = self.interrupt.recv() => return "SIGINT",
                Some(()) = self.hang_up.recv() => if self.has_terminal { return "SIGHUP" },
                // Streams of signals end with the runtime.
                else => std::future::pending().await,
            }
        }
    }
}
