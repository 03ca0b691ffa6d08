//! A `buildkitd` with a thread for its process: builds, sessions and gateway calls as BuildKit v0.33 treats them.
//!
//! `support/semantics.rs` checks it against what a real one is checked against.

mod bridge;
mod control;
mod jobs;
mod process;
mod script;
pub(crate) mod seen;
mod sessions;

use std::os::unix::net::UnixListener as Listener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use buildfleet_proto::buildkit::control_server::ControlServer;
use buildfleet_proto::content::content_server::ContentServer;
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::bridge::Bridge;
use self::control::Service;
use self::jobs::Jobs;
use self::process::Process;
use self::seen::Seen;
use self::sessions::Sessions;
use super::records::{Contents, Records};

/// How long a `buildkitd` waits for what is not there, and keeps what has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    /// Status, for its build to begin.
    pub(crate) status: Duration,
    /// LLBBridge, likewise.
    pub(crate) bridge: Duration,
    /// A build, for its session.
    pub(crate) session: Duration,
    /// A build that has ended, before its Ref is free again.
    pub(crate) kept: Duration,
}

impl Clocks {
    /// BuildKit's own: `solver/jobs.go`, `util/registrar`, `session/group.go`.
    pub(crate) const REAL: Self = Self {
        status: Duration::from_secs(6),
        bridge: Duration::from_secs(3),
        session: Duration::from_secs(5),
        kept: Duration::from_secs(10),
    };

    /// For tests that run into them: a pod with less patience than a real one.
    pub(crate) const QUICK: Self = Self {
        status: Duration::from_secs(1),
        bridge: Duration::from_secs(1),
        session: Duration::from_secs(2),
        kept: Duration::from_secs(10),
    };
}

/// What runs in the process.
#[derive(Debug)]
struct Machine {
    name: String,
    clocks: Clocks,
    seen: Arc<Seen>,
    records: Arc<Records>,
    jobs: Arc<Jobs>,
    sessions: Arc<Sessions>,
    doomed: CancellationToken,
}

/// Runs until it is killed or dropped.
#[derive(Debug)]
pub(crate) struct FakeBuildkitd {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    pub(crate) seen: Arc<Seen>,
    pub(crate) records: Arc<Records>,
    /// A build has come to where its script wants the pod to end: the test is to end it.
    pub(crate) doomed: CancellationToken,
    process: Process,
}

impl FakeBuildkitd {
    pub(crate) fn start(name: &str, directory: &Path) -> Self {
        Self::start_with(name, directory, Clocks::QUICK)
    }

    pub(crate) fn start_with(name: &str, directory: &Path, clocks: Clocks) -> Self {
        let socket = directory.join(format!("{name}.sock"));
        // Another process in the same pod.
        let _ = std::fs::remove_file(&socket);
        let listener = Listener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (seen, records) = (Arc::new(Seen::default()), Arc::new(Records::default()));
        let doomed = CancellationToken::new();
        let machine = Arc::new(Machine {
            name: name.to_owned(),
            clocks,
            seen: Arc::clone(&seen),
            records: Arc::clone(&records),
            jobs: Arc::new(Jobs::new(Arc::clone(&seen), Arc::clone(&records), clocks.kept)),
            sessions: Arc::new(Sessions::new(Arc::clone(&seen))),
            doomed: doomed.clone(),
        });
        let process = Process::start(move || serve(listener, machine));
        Self { name: name.to_owned(), socket, seen, records, doomed, process }
    }

    /// As SIGKILL does: every connection breaks.
    pub(crate) async fn kill(self) {
        self.process.kill().await;
    }

    /// As SIGSTOP does, or a network that drops everything: nothing is said any more, and nothing breaks.
    pub(crate) fn freeze(&mut self) {
        self.process.freeze();
    }

    pub(crate) fn thaw(&mut self) {
        self.process.thaw();
    }
}

async fn serve(listener: Listener, machine: Arc<Machine>) {
    let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
    let counted = Arc::clone(&machine.seen);
    let incoming = incoming.map(move |stream| {
        counted.connections.fetch_add(1, Ordering::SeqCst);
        stream
    });
    let control = ControlServer::new(Service(Arc::clone(&machine)));
    let control = control.max_decoding_message_size(16 << 20).max_encoding_message_size(16 << 20);
    let mut server = Server::builder().http2_max_header_list_size(16 << 20).initial_stream_window_size(65_535);
    let contents = ContentServer::new(Contents(Arc::clone(&machine.records)));
    server
        .add_service(control)
        .add_service(contents)
        .add_service(Bridge(machine))
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}
