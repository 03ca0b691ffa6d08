//! Pods of a workload in a cluster. The only room that holds a Kubernetes client.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    ApplyError, Backend, DeleteError, DialError, Dialed, Finding, Installation, LogStream, LogsError, LogsWanted,
    PodPhase, PodUsage, Pods, Preview, Removal, Removed, UsageError,
};
use crate::builder::{AttachTarget, KubeContext, Node, PodName};
use crate::manifest::{self, CONTAINER as BUILDKITD, Workload};
use crate::options::KubernetesOptions;

mod apply;
mod attached;
mod certs;
mod channel;
mod client;
mod collect;
mod compare;
mod context;
mod dial;
mod diff;
mod drift;
mod errors;
mod examine;
mod follow;
pub mod jobs;
mod kernel;
mod live;
mod logs;
mod marks;
mod metrics;
mod objects;
mod preview;
mod remove;
mod rights;
mod story;
mod view;
mod volumes;
mod wanted;

pub use attached::{AttachedBackend, Attachment};
pub use collect::{Collect, Fate, Found};
pub use context::{ContextError, resolve_context};
pub use objects::{GivenObject, NoObject, Put, PutAction, PutError, PutObjects, PutOutcome};

/// What is to run.
#[derive(Debug)]
struct Target {
    node: Node,
    options: KubernetesOptions,
    /// In whose name.
    us: Installation,
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
    /// Starts to watch; the cluster is contacted in the background and again whenever that fails.
    pub fn start(node: KubernetesNode) -> Self {
        let (cluster, target) = node.split();
        let (cluster, target) = (Arc::new(cluster), Arc::new(target));
        let dialer = dial::Dialer::new(target.options.transport);
        let shared = Arc::new(follow::Shared::new(view::View::of(target.us.clone())));
        let followed = follow::Followed {
            node: target.node.name.clone(),
            lead: follow::Lead::Workload(manifest::workload_kind(&target.options)),
            name: target.workload_name(),
            selector: Some(manifest::selector(&target.node)),
            target: Some(Arc::clone(&target)),
        };
        let follow = follow::follow(Arc::clone(&cluster), followed, Arc::clone(&shared));
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
        let mut order = Ordering::begin(&self.shared);
        let applied = match Box::pin(apply::apply(&connection, &self.target, replicas)).await {
            Err(ApplyError::Refused { source, .. }) if errors::is_unauthorized(&*source) => {
                let connection = self.renewed().await?;
                Box::pin(apply::apply(&connection, &self.target, replicas)).await?
            }
            outcome => outcome?,
        };
        if let Some(certificates) = &applied.certificates {
            self.dialer.remember(certificates);
        }
        // The watch says the same a moment later; until then nobody should think that there is nothing.
        order.made = applied.workload;
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
        logs::stream(&connection, pod, BUILDKITD, wanted).await
    }

    async fn delete(&self, removal: Removal) -> Result<Removed, DeleteError> {
        let connection = self.cluster.connection().await?;
        let _order = Ordering::begin(&self.shared);
        let removed = match remove::remove(&connection, &self.target, removal).await {
            Err(DeleteError::Refused { source, .. }) if errors::is_unauthorized(&*source) => {
                let connection = self.renewed().await?;
                remove::remove(&connection, &self.target, removal).await
            }
            outcome => outcome,
        };
        self.shared.change(view::View::removed);
        removed
    }

    async fn note_use(&self) -> Result<(), ApplyError> {
        let Some((kind, notes)) = self.shared.read(|view| view.renewing(Timestamp::now())) else { return Ok(()) };
        let (connection, name) = (self.cluster.connection().await?, self.target.workload_name());
        let asked = errors::Asked { verb: "patch", resource: kind.resource(), name: &name };
        let noted = live::merge(&connection, kind, &name, &notes).await;
        noted.map(drop).map_err(|error| asked.apply_error(&connection, error))
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

/// An order of ours, while it is under way: what it changes is nobody else's doing.
struct Ordering<'a> {
    shared: &'a follow::Shared,
    made: Option<Workload>,
}

impl<'a> Ordering<'a> {
    fn begin(shared: &'a follow::Shared) -> Self {
        shared.change(|view| view.order(true, None));
        Self { shared, made: None }
    }
}

impl Drop for Ordering<'_> {
    fn drop(&mut self) {
        let made = self.made.take();
        self.shared.change(|view| view.order(false, made));
    }
}

/// A node, where it is, and in whose name its objects are made.
#[derive(Debug, Clone)]
pub struct KubernetesNode {
    pub node: Node,
    pub context: KubeContext,
    pub options: KubernetesOptions,
    /// The URL of this pod's cluster, when this is a pod that knows it.
    pub api_server: Option<String>,
    pub us: Installation,
}

impl KubernetesNode {
    fn split(self) -> (client::Cluster, Target) {
        let Self { node, context, options, api_server, us } = self;
        (client::Cluster::new(context, options.namespace.clone(), api_server), Target { node, options, us })
    }

    /// What the next order would do in the cluster.
    ///
    /// # Errors
    /// When the cluster cannot be asked, or refuses.
    pub async fn preview(self) -> Result<Preview, ApplyError> {
        let (cluster, target) = self.split();
        Box::pin(preview::preview(&cluster.connection().await?, &target)).await
    }

    /// The workload of the node's name, when buildfleet did not make it.
    ///
    /// # Errors
    /// When the cluster cannot be asked, or refuses.
    pub async fn of_others(self) -> Result<Option<AttachTarget>, ApplyError> {
        let (cluster, target) = self.split();
        preview::of_others(&cluster.connection().await?, &target).await
    }

    /// Notes on the node's objects that this daemon uses them, and knows of the options that they have now.
    ///
    /// # Errors
    /// When the cluster cannot be asked, or refuses.
    pub async fn join(self) -> Result<(), ApplyError> {
        let (cluster, target) = self.split();
        preview::join(&cluster.connection().await?, &target).await
    }

    /// All objects but the certificates, as YAML that `kubectl apply` takes. Asks nobody.
    pub fn manifests(self) -> String {
        let namespace = self.options.namespace.clone().unwrap_or_default();
        wanted::documents(&self.split().1, &namespace)
    }
}
