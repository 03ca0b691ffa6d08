//! When a pod was last heard of: any byte on any connection to it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::io::InspectReader;

use crate::backend::ByteStream;

/// Shared by all connections to one pod.
#[derive(Debug, Clone)]
pub(super) struct Pulse(Arc<Beats>);

#[derive(Debug)]
struct Beats {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Arc::new(Beats { began: Instant::now(), last: AtomicU64::new(0) }))
    }

    fn beat(&self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
    }

    /// Another value means that something was heard in between.
    pub(super) fn last(&self) -> Instant {
        self.0.began + Duration::from_millis(self.0.last.load(Ordering::Relaxed))
    }
}

/// A connection that tells of what it hears.
pub(super) type Heard = InspectReader<Box<dyn ByteStream>, Box<dyn FnMut(&[u8]) + Send>>;

pub(super) fn heard(stream: Box<dyn ByteStream>, pulse: Pulse) -> Heard {
    let listen = move |data: &[u8]| {
        if !data.is_empty() {
            pulse.beat();
        }
    };
    InspectReader::new(stream, Box::new(listen))
}
