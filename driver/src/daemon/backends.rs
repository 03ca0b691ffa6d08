//! Which backend a node gets, and where a cluster is found: the one place that tests replace.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::kubernetes::jobs::Jobs;
use crate::backend::kubernetes::{AttachedBackend, Attachment, KubernetesBackend, KubernetesNode, resolve_context};
use crate::backend::local::LocalBackend;
use crate::backend::remote::RemoteBackend;
use crate::backend::{ApplyError, Installation, Preview, SharedBackend};
use crate::builder::{AttachTarget, Endpoint, KubeContext, Node};
use crate::options::DriverOptions;
use crate::report;
use crate::settings::Settings;

/// A context and the namespace that it names, or what is wrong with the files, for the user.
pub type Located = Result<(KubeContext, Option<String>), String>;

/// Makes backends.
#[async_trait::async_trait]
pub trait Backends: fmt::Debug + Send + Sync + 'static {
    /// The backend of a node whose options were typed for its endpoint's driver. Starts no pod.
    fn start(&self, node: &Node, options: &DriverOptions, us: &Installation) -> SharedBackend;

    /// Which context these kubeconfig files lead to now.
    fn locate(&self, paths: Vec<PathBuf>, context: Option<String>) -> Located;

    /// What the next order for a node would do; `None` where it does nothing that could be told before.
    async fn preview(
        &self,
        node: &Node,
        options: &DriverOptions,
        us: &Installation,
    ) -> Result<Option<Preview>, ApplyError>;

    /// Notes where the node's pods are that this daemon uses them, and knows of the options that they have.
    async fn join(&self, node: &Node, options: &DriverOptions, us: &Installation) -> Result<(), ApplyError>;

    /// What has the node's name where its pods would be, and was not made by buildfleet; `None` where nothing can.
    async fn of_others(&self, node: &Node, options: &DriverOptions) -> Result<Option<AttachTarget>, ApplyError>;

    /// The Jobs of a namespace, of the context's own when none is named.
    fn jobs(&self, context: KubeContext, namespace: Option<String>) -> Jobs {
        Jobs::new(context, namespace, None)
    }

    /// All that an order makes, as YAML; `None` where that is not made of documents.
    fn manifests(&self, node: &Node, options: &DriverOptions) -> Option<String>;
}

/// The backends that there are.
#[derive(Debug)]
pub struct AllBackends {
    settings: Settings,
}

impl AllBackends {
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn in_cluster(&self, node: &Node, options: &DriverOptions, us: &Installation) -> Option<KubernetesNode> {
        match (node.endpoint.clone(), options.clone()) {
            (Endpoint::Kubernetes(context), DriverOptions::Kubernetes(options)) => {
                let (node, us) = (node.clone(), us.clone());
                Some(KubernetesNode { node, context, options, api_server: self.api_server(), us })
            }
            _ => None,
        }
    }

    fn api_server(&self) -> Option<String> {
        self.settings.kubernetes_service().map(str::to_owned)
    }
}

#[async_trait::async_trait]
impl Backends for AllBackends {
    fn start(&self, node: &Node, options: &DriverOptions, us: &Installation) -> SharedBackend {
        if let Some(node) = self.in_cluster(node, options, us) {
            return Arc::new(KubernetesBackend::start(node));
        }
        match (node.endpoint.clone(), options.clone()) {
            (Endpoint::Attached { context, to }, DriverOptions::Kubernetes(options)) => {
                let (name, namespace) = (node.name.clone(), options.namespace);
                Arc::new(AttachedBackend::start(name, Attachment::to(&to), context, namespace, self.api_server()))
            }
            (Endpoint::Cluster { context, at }, DriverOptions::Remote(options)) => {
                let (name, namespace) = (node.name.clone(), at.namespace().map(str::to_owned));
                let to = Attachment::at(&at, &options);
                Arc::new(AttachedBackend::start(name, to, context, namespace, self.api_server()))
            }
            (Endpoint::Local, DriverOptions::Local(options)) => {
                let (state, run) = (self.settings.local_state(&node.name), self.settings.local_run(&node.name));
                Arc::new(LocalBackend::start(node.clone(), options, state, run))
            }
            (Endpoint::Remote(address), DriverOptions::Remote(options)) => {
                Arc::new(RemoteBackend::start(node.clone(), address, options))
            }
            (endpoint, _) => unreachable!("options are parsed for the driver of the endpoint, {}", endpoint.driver()),
        }
    }

    fn locate(&self, paths: Vec<PathBuf>, context: Option<String>) -> Located {
        resolve_context(paths, context).map_err(|error| report::chain(&error))
    }

    async fn preview(
        &self,
        node: &Node,
        options: &DriverOptions,
        us: &Installation,
    ) -> Result<Option<Preview>, ApplyError> {
        match self.in_cluster(node, options, us) {
            Some(node) => Box::pin(node.preview()).await.map(Some),
            None => Ok(None),
        }
    }

    async fn join(&self, node: &Node, options: &DriverOptions, us: &Installation) -> Result<(), ApplyError> {
        match self.in_cluster(node, options, us) {
            Some(node) => node.join().await,
            None => Ok(()),
        }
    }

    async fn of_others(&self, node: &Node, options: &DriverOptions) -> Result<Option<AttachTarget>, ApplyError> {
        match self.in_cluster(node, options, &Installation::default()) {
            Some(node) => node.of_others().await,
            None => Ok(None),
        }
    }

    fn jobs(&self, context: KubeContext, namespace: Option<String>) -> Jobs {
        Jobs::new(context, namespace, self.api_server())
    }

    fn manifests(&self, node: &Node, options: &DriverOptions) -> Option<String> {
        self.in_cluster(node, options, &Installation::default()).map(KubernetesNode::manifests)
    }
}
