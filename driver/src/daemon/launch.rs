//! The way from the command line to the daemon: connect, and start one when none answers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use buildfleet_proto::fleet::VersionRequest;
use buildfleet_proto::fleet::fleet_client::FleetClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::settings::Settings;
use crate::socket::{DirectoryError, private_directory};

/// How long a daemon may take until it answers, also one that systemd starts when its socket is used.
const START: Duration = Duration::from_secs(10);

/// The pause between two tries to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause before another daemon is started, when the last one found that one runs already.
const AGAIN: Duration = Duration::from_millis(500);

/// How much of a dead daemon's log is shown.
const LAST_WORDS: usize = 10;

/// The argument that tells a daemon that nobody waits for its end.
pub const ON_DEMAND: &str = "--on-demand";

/// Why what listens there was not taken for a daemon.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    #[error("failed to begin HTTP/2")]
    Connect(#[source] tonic::transport::Error),
    #[error("failed to ask for its version: {}", .0.message())]
    Ask(Status),
    #[error("it did not answer within {} s", START.as_secs())]
    Late,
}

/// Why no daemon could be reached.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(transparent)]
    Directory(DirectoryError),
    #[error("failed to connect to the daemon at {}", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the daemon at {} does not speak its API", path.display())]
    Greeting {
        path: PathBuf,
        #[source]
        source: GreetingError,
    },
    #[error("failed to find this program's own file")]
    Program(#[source] io::Error),
    #[error("failed to write the daemon's log {}", path.display())]
    Log {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the daemon ended at its start ({status}), its log {} says:\n{}", log.display(), said.join("\n"))]
    Died { status: ExitStatus, log: PathBuf, said: Vec<String> },
    #[error("no daemon answers at {} after {} s", path.display(), START.as_secs())]
    Silent { path: PathBuf },
}

impl LaunchError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Silent { .. } => {
                Some("a daemon that is shutting down may still hold its place: try again".to_owned())
            }
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("the daemon of another user cannot be used: unset BUILDFLEET_RUNTIME_DIR".to_owned())
            }
            _ => None,
        }
    }
}

/// The way to the daemon that runs, for all services of its API; `None` when none does.
///
/// # Errors
/// When something is there that is no daemon of this user.
pub async fn connect(settings: &Settings) -> Result<Option<Channel>, LaunchError> {
    let path = settings.control_socket();
    match UnixStream::connect(&path).await {
        Ok(_) => {}
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(source) => return Err(LaunchError::Connect { path, source }),
    }
    // Somebody else's directory could hold somebody else's socket, which would be told what to build.
    private_directory(settings.runtime_dir()).map_err(LaunchError::Directory)?;
    match greet(&path).await {
        Ok(channel) => Ok(Some(channel)),
        // A daemon that was killed takes a connection until its last thread has ended, and then drops it unread.
        Err(_) if UnixStream::connect(&path).await.is_err_and(|error| is_nobody(&error)) => Ok(None),
        Err(source) => Err(LaunchError::Greeting { path, source }),
    }
}

/// A connection by which a daemon has answered.
async fn greet(path: &Path) -> Result<Channel, GreetingError> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let greeted = async {
        let endpoint = Endpoint::from_static("http://buildfleet.invalid");
        let channel = endpoint.connect_with_connector(connector).await.map_err(GreetingError::Connect)?;
        FleetClient::new(channel.clone()).version(VersionRequest {}).await.map_err(GreetingError::Ask)?;
        Ok(channel)
    };
    timeout(START, greeted).await.unwrap_or(Err(GreetingError::Late))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// The daemon that runs, or one that is started now from this program's own file.
///
/// # Errors
/// When no daemon could be started, or none answers in time.
pub async fn connect_or_start(settings: &Settings) -> Result<Channel, LaunchError> {
    if let Some(daemon) = connect(settings).await? {
        return Ok(daemon);
    }
    let program = std::env::current_exe().map_err(LaunchError::Program)?;
    connect_or_start_program(settings, &program).await
}

/// As [`connect_or_start`], with the program to start given.
///
/// # Errors
/// When no daemon could be started, or none answers in time.
pub async fn connect_or_start_program(settings: &Settings, program: &Path) -> Result<Channel, LaunchError> {
    let deadline = Instant::now() + START;
    let mut started: Option<Started> = None;
    let mut next_start = Instant::now();
    while Instant::now() < deadline {
        if let Some(daemon) = connect(settings).await? {
            return Ok(daemon);
        }
        started = match started {
            None if Instant::now() >= next_start => Some(Started::spawn(settings, program)?),
            None => None,
            Some(mut daemon) => match daemon.ended() {
                // The daemon's lock is what makes this free of races: of many that start, one stays.
                Some(status) if status.success() => {
                    next_start = Instant::now() + AGAIN;
                    None
                }
                Some(status) => return Err(daemon.died(status)),
                None => Some(daemon),
            },
        };
        sleep(PAUSE).await;
    }
    Err(LaunchError::Silent { path: settings.control_socket() })
}

#[derive(Debug)]
struct Started {
    child: Child,
    log: PathBuf,
    /// Where this daemon's own lines begin.
    offset: u64,
}

impl Started {
    fn spawn(settings: &Settings, program: &Path) -> Result<Self, LaunchError> {
        private_directory(settings.state_dir()).map_err(LaunchError::Directory)?;
        let log = settings.daemon_log();
        let failed = |source| LaunchError::Log { path: log.clone(), source };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&log).map_err(failed)?;
        let offset = file.metadata().map_err(failed)?.len();
        let mut command = Command::new(program);
        // It outlives this process: nothing of the caller's terminal and working directory is kept. It makes a session
        // of its own when it runs.
        command.arg("daemon").arg(ON_DEMAND).envs(settings.for_child()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|source| LaunchError::Spawn { program: program.to_owned(), source })?;
        Ok(Self { child, log, offset })
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn died(self, status: ExitStatus) -> LaunchError {
        LaunchError::Died { status, said: last_lines(&self.log, self.offset), log: self.log }
    }
}

/// The last lines of a log after `offset`; what cannot be read is not there.
fn last_lines(log: &Path, offset: u64) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        // A log that was cut meanwhile is shorter: then all of it is new.
        file.seek(SeekFrom::Start(if file.metadata()?.len() < offset { 0 } else { offset }))?;
        let mut bytes = Vec::new();
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].iter().map(|line| (*line).to_owned()).collect()
}
