//! The daemon: builders, their sockets and fleets, and the API that the command line speaks.

use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buildfleet_proto::fleet::fleet_server::FleetServer;
use buildfleet_proto::fleet::jobs_server::JobsServer;
use buildfleet_proto::fleet::objects_server::ObjectsServer;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use self::api::Api;
use self::registry::Registry;
use self::signals::Signals;
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::socket::{BindError, DirectoryError, PrivateSocket, private_directory};
use crate::store::{Held, OpenError};

mod api;
mod backends;
pub mod collect;
mod entry;
mod front;
mod given;
pub mod hint;
mod installation;
mod invent;
mod jobs;
pub mod launch;
pub mod logfile;
mod owned;
mod plan;
mod presence;
mod progress;
mod registry;
mod signals;
mod words;

pub use backends::{AllBackends, Backends, Located};

/// How long what runs may take to end, unless the user says otherwise.
pub const DRAIN: Duration = Duration::from_secs(30);

/// How long builders may take to let go of their pods after the drain.
const CLOSE: Duration = Duration::from_secs(10);

/// How a daemon is run.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// Started by the command line: another daemon that runs already is no error.
    pub on_demand: bool,
    /// How long what runs may take to end after the first signal.
    pub drain: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { on_demand: false, drain: DRAIN }
    }
}

/// Why a daemon ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Directory(DirectoryError),
    #[error("another daemon runs already: it holds {}", .0.display())]
    Running(PathBuf),
    #[error("failed to lock {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to use the socket that was handed over by LISTEN_FDS")]
    Inherited(#[source] io::Error),
    #[error("failed to open the control socket")]
    Bind(#[source] BindError),
    #[error("failed to open the store")]
    Store(#[source] OpenError),
    #[error("failed to listen for signals")]
    Signals(#[source] io::Error),
    #[error("failed to serve the API")]
    Serve(#[source] tonic::transport::Error),
    #[error("what ran was aborted after {} s", .0.as_secs())]
    Aborted(Duration),
}

/// Runs the daemon until it is asked to end.
///
/// # Errors
/// When it could not start, or when something had to be aborted at its end.
pub async fn run(settings: Settings, options: RunOptions) -> Result<(), DaemonError> {
    // A session of its own: the terminal it was started from is none of its business. It fails for who has one already.
    if options.on_demand {
        let _ = nix::unistd::setsid();
    }
    let backends = Box::new(AllBackends::new(settings.clone()));
    let signals = Signals::listen(options.on_demand).map_err(DaemonError::Signals)?;
    let shutdown = Shutdown::new();
    let daemon = match Daemon::start(settings, backends, shutdown.clone()).await {
        Err(DaemonError::Running(lock)) if options.on_demand => {
            tracing::info!(lock = %lock.display(), "another daemon runs already");
            return Ok(());
        }
        started => started?,
    };
    tokio::select! {
        ended = daemon.serve(options.drain) => ended,
        () = signals.forward(&shutdown) => Ok(()),
    }
}

/// A daemon that holds its place and its sockets.
#[derive(Debug)]
pub struct Daemon {
    registry: Arc<Registry>,
    control: PrivateSocket,
    shutdown: Shutdown,
    _lock: Held,
}

impl Daemon {
    /// Takes the one place that there is, and brings back the builders in the store. Starts no pod.
    ///
    /// # Errors
    /// When another daemon has that place, or when its directories or sockets cannot be used.
    pub async fn start(
        settings: Settings,
        backends: Box<dyn Backends>,
        shutdown: Shutdown,
    ) -> Result<Self, DaemonError> {
        // First of all, so that what the daemon starts later does not take these sockets for its own.
        let inherited = listenfd::ListenFd::from_env().take_unix_listener(0).map_err(DaemonError::Inherited)?;
        private_directory(settings.runtime_dir()).map_err(DaemonError::Directory)?;
        let lock = lock(settings.daemon_lock())?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            pid = std::process::id(),
            runtime_dir = %settings.runtime_dir().display(),
            state_dir = %settings.state_dir().display(),
            activated = inherited.is_some(),
            "starting"
        );
        let path = settings.control_socket();
        let registry = Registry::open(settings, backends, shutdown.clone()).await.map_err(DaemonError::Store)?;
        // Last of all: who connects to it finds the builders.
        let control = match inherited {
            Some(listener) => PrivateSocket::inherited(listener).map_err(DaemonError::Inherited)?,
            None => PrivateSocket::bind(&path).await.map_err(DaemonError::Bind)?,
        };
        Ok(Self { registry: Arc::new(registry), control, shutdown, _lock: lock })
    }

    /// Serves until the shutdown begins, then waits at most `drain` for what runs.
    ///
    /// # Errors
    /// When the API cannot be served, or when something had to be aborted.
    pub async fn serve(self, drain: Duration) -> Result<(), DaemonError> {
        let Self { registry, control, shutdown, _lock } = self;
        let (ended, served) = oneshot::channel();
        let (api, serving) = (Api::new(Arc::clone(&registry)), shutdown.clone());
        shutdown.spawn(async move {
            // Who waits for it below is still there.
            let _ = ended.send(serve_api(api, control, &serving).await);
            // Without its API nobody could ask the daemon to end.
            serving.drain();
        });
        let drained = async {
            shutdown.draining().await;
            shutdown.finished(drain).await
        };
        let (served, clean) = tokio::join!(served, drained);
        if tokio::time::timeout(CLOSE, registry.close()).await.is_err() {
            tracing::warn!("builders did not close in time");
        }
        tracing::info!(clean, "ended");
        // One that was aborted says so by `clean`.
        served.unwrap_or(Ok(())).map_err(DaemonError::Serve)?;
        if clean { Ok(()) } else { Err(DaemonError::Aborted(drain)) }
    }
}

/// Serves the API on the control socket until the drain has ended; the socket is gone when the drain begins.
async fn serve_api(api: Api, control: PrivateSocket, shutdown: &Shutdown) -> Result<(), tonic::transport::Error> {
    let (accepted, connections) = mpsc::channel(1);
    let accepting = async move {
        loop {
            tokio::select! {
                () = shutdown.draining() => break,
                (stream, _) = control.accept() => if accepted.send(stream).await.is_err() { break },
            }
        }
    };
    let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    let server = tonic::transport::Server::builder()
        .add_service(FleetServer::new(api.clone()))
        .add_service(ObjectsServer::new(api.clone()))
        .add_service(JobsServer::new(api))
        .serve_with_incoming_shutdown(incoming, shutdown.draining());
    let ((), served) = tokio::join!(accepting, server);
    served
}

fn lock(path: PathBuf) -> Result<Held, DaemonError> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let locked = open.map_err(TryLockError::Error).and_then(Held::try_new);
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => DaemonError::Running(path),
        TryLockError::Error(source) => DaemonError::Lock { path, source },
    })
}
