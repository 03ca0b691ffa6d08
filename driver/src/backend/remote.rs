//! A `buildkitd` at a unix or TCP address that somebody else runs: never started and never stopped here.

use tokio::sync::watch;

use super::{ApplyError, Backend, DeleteError, DialError, Dialed, LogStream, LogsError, LogsWanted, Pods};
use crate::builder::{Node, PodName, RemoteAddress};
use crate::options::RemoteOptions;

/// The one pod of a remote node.
#[derive(Debug)]
pub struct RemoteBackend {
    pods: watch::Sender<Pods>,
}

impl RemoteBackend {
    /// Dials nothing yet.
    pub fn start(node: Node, address: RemoteAddress, options: RemoteOptions) -> Self {
        let _ = (node, address, options);
        Self { pods: watch::Sender::new(Pods::unknown()) }
    }
}

#[async_trait::async_trait]
impl Backend for RemoteBackend {
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
