//! Pods of a workload in a cluster. The only room that holds a Kubernetes client.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    ApplyError, Backend, DeleteError, DialError, Dialed, Finding, LogStream, LogsError, LogsWanted, PodPhase, PodUsage,
    Pods, UsageError,
};
use crate::builder::{KubeContext, Node, PodName};
use crate::manifest::{self, CONTAINER as BUILDKITD};
use crate::options::KubernetesOptions;

mod apply;
mod certs;
mod channel;
mod client;
mod context;
mod dial;
mod errors;
mod examine;
mod follow;
mod logs;
mod metrics;
mod remove;
mod rights;
mod story;
mod view;

pub use context::{ContextError, resolve_context};

/// What is to run.
#[derive(Debug)]
struct Target {
    node: Node,
    options: KubernetesOptions,
}

impl Target {
    fn workload_name(&self) -> String {
        manifest::workload_name(&self.node)
    }

    fn config_name(&self) -> String {
        manifest::config_name(&self.node)
    }

    fn secret_name(&self) -> String {
        manifest::tls_secret_name(&self.node)
    }
}

/// The pods of one node.
#[derive(Debug)]
pub struct KubernetesBackend {
    target: Arc<Target>,
    cluster: Arc<client::Cluster>,
    shared: Arc<follow::Shared>,
    dialer: dial::Dialer,
    /// The watches, ended with the backend.
    _follow: AbortOnDropHandle<()>,
}

impl KubernetesBackend {
    /// Starts to watch; the cluster is contacted in the background and again whenever that fails. `api_server` is the URL
    /// of this pod's cluster, when this is a pod that knows it.
    pub fn start(node: Node, context: KubeContext, options: KubernetesOptions, api_server: Option<String>) -> Self {
        let cluster = Arc::new(client::Cluster::new(context, options.namespace.clone(), api_server));
        let dialer = dial::Dialer::new(options.transport);
        let target = Arc::new(Target { node, options });
        let shared = Arc::new(follow::Shared::new());
        let follow = follow::follow(Arc::clone(&cluster), Arc::clone(&target), Arc::clone(&shared));
        let follow = AbortOnDropHandle::new(tokio::spawn(follow));
        Self { target, cluster, shared, dialer, _follow: follow }
    }

    /// A connection with the credentials that the kubeconfig has now: those of the last one are refused.
    async fn renewed(&self) -> Result<client::Connection, errors::ConnectError> {
        self.cluster.forget();
        self.cluster.connection().await
    }
}

#[async_trait::async_trait]
impl Backend for KubernetesBackend {
    async fn apply(&self, replicas: u32) -> Result<(), ApplyError> {
        let connection = self.cluster.connection().await?;
        let applied = match apply::apply(&connection, &self.target, replicas).await {
            Err(ApplyError::Refused { source, .. }) if errors::is_unauthorized(&*source) => {
                let connection = self.renewed().await?;
                apply::apply(&connection, &self.target, replicas).await?
            }
            outcome => outcome?,
        };
        if let Some(certificates) = &applied.certificates {
            self.dialer.remember(certificates);
        }
        // The watch says the same a moment later; until then nobody should think that there is nothing.
        self.shared.change(|view| view.workload(kube::runtime::watcher::Event::Apply(applied.workload)));
        Ok(())
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.shared.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        if self.shared.read(|view| view.has_pod(pod)) == Some(false) {
            return Err(DialError::Gone(pod.clone()));
        }
        let address = self.shared.read(|view| view.address(pod));
        self.dialer.dial(&self.cluster, &self.target, pod, address).await
    }

    async fn logs(&self, pod: &PodName, wanted: LogsWanted) -> Result<LogStream, LogsError> {
        let failed = |source: errors::ConnectError| LogsError::Failed { pod: pod.clone(), source: source.into() };
        let connection = self.cluster.connection().await.map_err(failed)?;
        logs::stream(&connection, pod, wanted).await
    }

    async fn delete(&self) -> Result<(), DeleteError> {
        let connection = self.cluster.connection().await?;
        match remove::remove(&connection, &self.target).await {
            Err(DeleteError::Refused { source, .. }) if errors::is_unauthorized(&*source) => {
                let connection = self.renewed().await?;
                remove::remove(&connection, &self.target).await
            }
            outcome => outcome,
        }
    }

    async fn examine(&self) -> Vec<Finding> {
        let pods = self.pods().borrow().clone();
        let running = pods.pods.iter().find(|pod| pod.phase == PodPhase::Running).map(|pod| pod.name.clone());
        let running = running.map(|pod| {
            let address = self.shared.read(|view| view.address(&pod));
            (pod, address)
        });
        examine::examine(&self.cluster, &self.target, &self.dialer, running).await
    }

    async fn usage(&self) -> Result<Vec<PodUsage>, UsageError> {
        let connection = self.cluster.connection().await.map_err(|error| UsageError::Failed(error.into()))?;
        metrics::usage(&connection, &self.target).await
    }
}
