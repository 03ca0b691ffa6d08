//! What runs pods: the one seam between buildfleet and Kubernetes, child processes, or somebody else's `buildkitd`.
//!
//! A backend knows how pods come to be and how to reach one. It does not know what bytes mean: whether a pod answers is
//! found out by [`crate::fleet`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::builder::PodName;

mod finding;
mod kernel;
pub mod kubernetes;
pub mod local;
mod ownership;
pub mod remote;
mod tcp;

pub use finding::{Finding, PodUsage, UsageError, Verdict};
pub use ownership::{Change, Installation, Obstacle, Preview, Removal, Removed, Sharing, Standing};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The pods of one node. There is one backend value per node; it is shared, and every method may be called at any time.
///
/// Dropping the last handle ends all that the backend runs in this process (watches, child processes), but nothing in a
/// cluster: that is [`Backend::delete`].
#[async_trait::async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Makes the wanted state so: the node's objects with `replicas` pods. Idempotent; does not wait for pods.
    async fn apply(&self, replicas: u32) -> Result<(), ApplyError>;

    /// The pods as last seen, without asking anybody now. The first value may be [`Pods::unknown`].
    fn pods(&self) -> watch::Receiver<Pods>;

    /// A byte stream to `buildkitd`'s gRPC port in a pod. Bounded by the caller.
    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError>;

    /// The pod's output.
    async fn logs(&self, pod: &PodName, wanted: LogsWanted) -> Result<LogStream, LogsError>;

    /// Removes all that `apply` made and returns when it is gone or going. Nothing to remove is success.
    async fn delete(&self, removal: Removal) -> Result<Removed, DeleteError>;

    /// Notes where the pods are that they are in use, unless that was noted a short time ago.
    async fn note_use(&self) -> Result<(), ApplyError> {
        Ok(())
    }

    /// What works of what the node needs, and what does not. Starts nothing. Bounded by the caller.
    async fn examine(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// What the pods use now.
    async fn usage(&self) -> Result<Vec<PodUsage>, UsageError> {
        Err(UsageError::Unsupported)
    }
}

/// A byte stream in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An open way to a pod.
pub struct Dialed {
    pub stream: Box<dyn ByteStream>,
    pub transport: Transport,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// How bytes reach a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP with mTLS to the pod's own address.
    PodIp,
    /// mTLS through the API server's port-forward.
    PortForward,
    /// `buildctl dial-stdio` through the API server's exec.
    Exec,
    /// `buildctl dial-stdio` on another machine, by `ssh`.
    Ssh,
    /// `buildctl dial-stdio` in a container, by the command of what runs it.
    Container,
    Unix,
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PodIp => "pod-ip",
            Self::PortForward => "port-forward",
            Self::Exec => "exec",
            Self::Ssh => "ssh",
            Self::Container => "container",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        })
    }
}

/// A snapshot of a node's pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    /// False until the backend has seen the real state once, and again while it can't.
    pub known: bool,
    /// Whether the node's objects exist: false when nothing was applied, or when somebody deleted them.
    pub applied: bool,
    /// Sorted by name.
    pub pods: Vec<Pod>,
    /// What happened to the node as a whole: a watch that fails, pods that cannot be created (quota, admission).
    pub notes: Vec<StoryLine>,
    /// How pods that are gone came to their end; bounded, newest kept.
    pub ended: BTreeMap<PodName, PodEnd>,
    /// How somebody else has changed or removed what `apply` made.
    pub drift: Option<String>,
    /// What `apply` makes outlives this process, and is not there.
    pub absent: bool,
    pub sharing: Option<Sharing>,
    /// How many pods there should be, where that is not for us to say.
    pub replicas: Option<u32>,
}

impl Pods {
    /// Before anything was seen.
    pub fn unknown() -> Self {
        Self::default()
    }

    pub fn get(&self, name: &PodName) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.name == *name)
    }
}

/// One pod as its backend sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub name: PodName,
    pub phase: PodPhase,
    /// Counts what `buildkitd` ran here: another value is another process, to which no connection survives.
    pub incarnation: u64,
    /// The machine that it runs on, when known.
    pub host: Option<String>,
    pub started: Option<std::time::SystemTime>,
    /// What happened so far, oldest first; a pure function of what the backend saw, so lines may be compared.
    pub story: Vec<StoryLine>,
    /// How its last `buildkitd` ended, when one did.
    pub last_end: Option<PodEnd>,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Not scheduled, pulling, or preparing.
    Pending,
    /// The process was started; whether it answers is for the fleet to find out.
    Running,
    /// It was asked to go: nothing new may be placed on it.
    Terminating,
    /// Not running now: it crashed and waits for its next start, or it ended for good.
    Failed,
}

/// The end of one `buildkitd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEnd {
    /// The reason in the backend's words: `OOMKilled`, `Evicted`, `deleted`, `exit code 1`.
    pub reason: String,
    /// More of it: an eviction message, the last lines of the log.
    pub detail: Option<String>,
}

impl fmt::Display for PodEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// One thing that happened, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryLine {
    pub text: String,
    pub trouble: bool,
}

impl StoryLine {
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), trouble: false }
    }

    pub fn trouble(text: impl Into<String>) -> Self {
        Self { text: text.into(), trouble: true }
    }
}

/// Which part of a pod's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogsWanted {
    pub follow: bool,
    pub tail: Option<u32>,
}

/// A pod's output in chunks as they come.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<Bytes, LogsError>> + Send>>;

/// Why the wanted state could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("failed to read {}", path.display())]
    Config {
        path: PathBuf,
        #[source]
        source: BoxError,
    },
    #[error("failed to reach {what}")]
    Unreachable {
        what: String,
        #[source]
        source: BoxError,
    },
    #[error("not allowed to {verb} {resource} in namespace {namespace}")]
    Forbidden {
        verb: &'static str,
        resource: &'static str,
        namespace: String,
        #[source]
        source: BoxError,
    },
    #[error("failed to {verb} {object}")]
    Refused {
        verb: &'static str,
        object: String,
        #[source]
        source: BoxError,
    },
    #[error("found no `{program}` on this machine")]
    Missing { program: &'static str, hint: String },
    #[error("failed to start {program}")]
    Spawn {
        program: String,
        #[source]
        source: std::io::Error,
    },
}

/// The namespace that the node's objects should be in is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("namespace {namespace} does not exist")]
pub struct NoNamespace {
    pub namespace: String,
}

impl NoNamespace {
    fn hint(&self) -> String {
        let namespace = &self.namespace;
        format!("create it by `kubectl create namespace {namespace}`, or choose another by --driver-opt namespace=NAME")
    }
}

/// Why a pod could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("pod {0} is not there")]
    Gone(PodName),
    #[error("failed to reach pod {pod} by {transport}")]
    Failed {
        pod: PodName,
        transport: Transport,
        #[source]
        source: BoxError,
    },
}

/// Why a pod's output could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("pod {0} is not there")]
    Gone(PodName),
    #[error("the remote driver has no access to the output of {0}")]
    Unsupported(PodName),
    #[error("failed to read the output of pod {pod}")]
    Failed {
        pod: PodName,
        #[source]
        source: BoxError,
    },
}

/// Why something is left behind.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("failed to reach {what}")]
    Unreachable {
        what: String,
        #[source]
        source: BoxError,
    },
    #[error("failed to delete {object}")]
    Refused {
        object: String,
        #[source]
        source: BoxError,
    },
}

impl ApplyError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { hint, .. } => Some(hint.clone()),
            Self::Refused { source, .. } => {
                let obstacle = source.downcast_ref::<Obstacle>().map(|found| found.hint.clone());
                obstacle.or_else(|| source.downcast_ref::<NoNamespace>().map(NoNamespace::hint))
            }
            Self::Forbidden { .. } => Some("docs/rbac.md lists the rights that each transport needs".to_owned()),
            Self::Config { .. } | Self::Unreachable { .. } | Self::Spawn { .. } => None,
        }
    }
}

/// A shared backend.
pub type SharedBackend = Arc<dyn Backend>;
