//! What a fake `buildkitd` saw, for tests that ask.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use buildfleet_proto::buildkit::SolveRequest;
use http::HeaderMap;

/// How a build ended on the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Failed,
    /// The client broke it off, or seemed to.
    Cancelled,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A session was opened, with this metadata.
    Attached(String, HeaderMap),
    Solve(Box<SolveRequest>),
    /// A call of LLBBridge: the build and the method.
    Bridge(String, String),
    Status(String),
    Ended(String, End),
}

/// What clients did.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    events: Mutex<Vec<(Instant, Event)>>,
    pub(crate) connections: AtomicUsize,
    /// Open now.
    pub(crate) solving: AtomicUsize,
    pub(crate) open_sessions: AtomicUsize,
    pub(crate) open_statuses: AtomicUsize,
    pub(crate) open_calls: AtomicUsize,
    /// Bytes of logs that a client's Status took.
    pub(crate) told: AtomicUsize,
    /// Bytes of exports that users' sessions took.
    pub(crate) exported: AtomicUsize,
}

impl Seen {
    pub(super) fn happens(&self, event: Event) {
        self.events.lock().unwrap().push((Instant::now(), event));
    }

    pub(crate) fn events(&self) -> Vec<(Instant, Event)> {
        self.events.lock().unwrap().clone()
    }

    fn all<T>(&self, wanted: impl FnMut((Instant, Event)) -> Option<T>) -> Vec<T> {
        self.events().into_iter().filter_map(wanted).collect()
    }

    /// The clients' builds that came, in their order. What the daemon asks on its own behalf is left out.
    pub(crate) fn solves(&self) -> Vec<SolveRequest> {
        self.all(|(_, event)| match event {
            Event::Solve(request) if !is_own(&request.r#ref) => Some(*request),
            _ => None,
        })
    }

    /// Their refs.
    pub(crate) fn refs(&self) -> Vec<String> {
        self.solves().into_iter().map(|request| request.r#ref).collect()
    }

    /// The methods of LLBBridge that were called for a build.
    pub(crate) fn bridge(&self, r#ref: &str) -> Vec<String> {
        self.all(|(_, event)| match event {
            Event::Bridge(build, method) if build == r#ref => Some(method),
            _ => None,
        })
    }

    /// How a build ended.
    pub(crate) fn end(&self, r#ref: &str) -> Option<End> {
        let ends = self.all(|(_, event)| match event {
            Event::Ended(build, end) if build == r#ref => Some(end),
            _ => None,
        });
        ends.last().copied()
    }

    /// The metadata of each session that was opened under this id.
    pub(crate) fn attached(&self, session: &str) -> Vec<HeaderMap> {
        self.all(|(_, event)| match event {
            Event::Attached(id, metadata) if id == session => Some(metadata),
            _ => None,
        })
    }

    /// The metadata of a session that was opened once.
    pub(crate) fn metadata(&self, session: &str) -> HeaderMap {
        let [metadata] = &self.attached(session)[..] else { panic!("session {session} was not opened once: {self:?}") };
        metadata.clone()
    }

    /// Status was asked for these builds.
    pub(crate) fn statuses(&self) -> Vec<String> {
        self.all(|(_, event)| if let Event::Status(r#ref) = event { Some(r#ref) } else { None })
    }

    /// Nothing that a client opened is still open.
    pub(crate) fn is_quiet(&self) -> bool {
        let open = [&self.solving, &self.open_sessions, &self.open_statuses, &self.open_calls];
        open.iter().all(|count| count.load(Ordering::SeqCst) == 0)
    }
}

/// Whether the daemon builds this on its own behalf, to learn what a pod can do.
pub(super) fn is_own(r#ref: &str) -> bool {
    r#ref.starts_with("buildfleet-")
}

/// Counts what is open for as long as it lives.
#[derive(Debug)]
pub(super) struct Open(Arc<Seen>, fn(&Seen) -> &AtomicUsize);

impl Open {
    pub(super) fn new(seen: &Arc<Seen>, which: fn(&Seen) -> &AtomicUsize) -> Self {
        which(seen).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(seen), which)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}
