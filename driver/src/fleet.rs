//! The pods of one node as one thing: started when needed, ready when they answer, warm connections, and the story of a wait.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buildfleet_proto::buildkit::ListWorkersResponse;
use tokio::sync::watch;

use crate::backend::{ApplyError, DeleteError, SharedBackend, Transport};
use crate::builder::{NodeName, Platform, PodName};
use crate::options::LoadBalance;
use crate::shutdown::Shutdown;

/// What a fleet needs to know of its node.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    pub node: NodeName,
    pub replicas: u32,
    pub loadbalance: LoadBalance,
    /// How long a start may take.
    pub timeout: Duration,
    /// Given by `--platform`; what ListWorkers answers before a pod was ever seen.
    pub platforms: Vec<Platform>,
    /// What the pods said of themselves when they were last seen, perhaps by an earlier daemon.
    pub remembered: Remembered,
}

/// What outlives the pods and a restart of the daemon, so that `ls` and `inspect` never start a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remembered {
    /// An answer to ListWorkers, merged over the pods.
    pub workers: Option<ListWorkersResponse>,
    /// Pods were stopped by `buildfleet stop`, or were never started.
    pub stopped: bool,
}

/// One node's pods, shared by its sockets and the daemon's API.
#[derive(Debug)]
pub struct NodeFleet {
    snapshot: watch::Sender<NodeSnapshot>,
    backend: SharedBackend,
}

/// What is known of a node now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeSnapshot {
    pub status: NodeStatus,
    /// Why, when the status is not `Running`.
    pub reason: Option<String>,
    pub wanted: u32,
    pub ready: u32,
    pub pods: Vec<PodSnapshot>,
    /// The story so far, oldest first: lines of the node (pod `None`) and of its pods.
    pub story: Vec<(Option<PodName>, crate::backend::StoryLine)>,
    pub remembered: Remembered,
}

/// In buildx's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeStatus {
    /// At least one pod is ready.
    Running,
    /// Pods are wanted and none is ready yet.
    Starting,
    /// No pod is wanted.
    Stopped,
    /// Nothing is known: the backend cannot be reached.
    #[default]
    Inactive,
    /// Pods are wanted, none is ready, and the last try failed.
    Error,
}

/// What is known of a pod now.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSnapshot {
    pub name: PodName,
    pub status: PodStatus,
    pub reason: Option<String>,
    pub host: Option<String>,
    pub started: Option<SystemTime>,
    pub connections: u32,
    pub transport: Option<Transport>,
}

/// How far a pod is, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodStatus {
    Pending,
    /// Running, but it does not answer yet.
    Starting,
    Ready,
    Terminating,
    Failed,
}

/// Why a node did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to start node {node}")]
    Apply {
        node: NodeName,
        #[source]
        source: ApplyError,
    },
    /// `story` has one line per pod or node that says how far it got.
    #[error("node {node} has {ready} of {wanted} pods ready after {} s\n{}", waited.as_secs(), story.join("\n"))]
    TimedOut { node: NodeName, ready: u32, wanted: u32, waited: Duration, story: Vec<String> },
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

impl NodeFleet {
    /// Starts to follow the backend's pods and to ask the running ones whether they answer. Starts no pod.
    pub fn start(config: FleetConfig, backend: SharedBackend, shutdown: Shutdown) -> Arc<Self> {
        let _ = (config, shutdown);
        Arc::new(Self { snapshot: watch::Sender::new(NodeSnapshot::default()), backend })
    }

    /// The snapshot now, and every later one.
    pub fn watch(&self) -> watch::Receiver<NodeSnapshot> {
        self.snapshot.subscribe()
    }

    pub fn backend(&self) -> &SharedBackend {
        &self.backend
    }

    /// Starts the node's pods; returns when the backend has taken the order.
    pub async fn start_pods(&self) -> Result<(), StartError> {
        Ok(())
    }

    /// Starts the node's pods and waits until `all` of them, or else one, answer. The story of the wait is in the
    /// snapshots.
    pub async fn ready(&self, all: bool, timeout: Option<Duration>) -> Result<(), StartError> {
        let _ = (all, timeout);
        Ok(())
    }

    /// Scales to zero; the next build starts the pods again.
    pub async fn stop_pods(&self) -> Result<(), ApplyError> {
        Ok(())
    }

    /// Removes all that the node has in its backend, and ends the fleet's own tasks and connections.
    pub async fn delete(&self) -> Result<(), DeleteError> {
        Ok(())
    }

    /// Ends the fleet's own tasks and connections; the pods stay.
    pub async fn close(&self) {}
}
