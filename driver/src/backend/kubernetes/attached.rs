//! Pods that somebody else runs: found by what leads to them, reached by exec or at a port, never changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::dial::{Door, PortDialer};
use super::follow::{Followed, Lead, Shared, follow};
use super::view::View;
use super::{client, dial, errors, logs};
use crate::backend::{
    ApplyError, Backend, DeleteError, DialError, Dialed, Finding, LogStream, LogsError, LogsWanted, Pods, Removal,
    Removed, Transport,
};
use crate::builder::{
    AttachKind, AttachTarget, ClusterAddress, ClusterTarget, KubeContext, NodeName, PodName, ServicePort,
};
use crate::manifest::WorkloadKind;
use crate::options::RemoteOptions;

mod examine;
pub(super) mod pods;
pub(super) mod port;

pub(super) use examine::WITHOUT_EXEC;

/// How long a first look is waited for before an order is believed to find its pods.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// The pods of a workload or a Service, or a pod, that somebody else runs.
#[derive(Debug)]
pub struct AttachedBackend {
    /// What leads to them, in words.
    to: String,
    cluster: Arc<client::Cluster>,
    shared: Arc<Shared>,
    lead: Lead,
    way: Way,
    /// The watches, ended with the backend.
    _follow: AbortOnDropHandle<()>,
}

/// How `buildkitd` is reached in them.
#[derive(Debug)]
enum Way {
    Exec,
    /// At a port of the Service.
    Port {
        wanted: Option<ServicePort>,
        dialer: PortDialer,
    },
}

/// What is attached to.
#[derive(Debug)]
pub struct Attachment {
    lead: Lead,
    name: String,
    container: Option<String>,
    way: Way,
}

impl Attachment {
    /// As `--attach` has it.
    pub fn to(target: &AttachTarget) -> Self {
        let lead = match target.kind() {
            AttachKind::Deployment => Lead::Workload(WorkloadKind::Deployment),
            AttachKind::StatefulSet => Lead::Workload(WorkloadKind::StatefulSet),
            AttachKind::Pod => Lead::Pod,
        };
        Self { lead, name: target.name().to_owned(), container: None, way: Way::Exec }
    }

    /// As an address of the remote driver has it.
    pub fn at(address: &ClusterAddress, options: &RemoteOptions) -> Self {
        match address.target().clone() {
            ClusterTarget::Pod { name, container } => Self { lead: Lead::Pod, name, container, way: Way::Exec },
            ClusterTarget::Service { name, port: wanted } => {
                let dialer = PortDialer::new(options.transport, options.tls.clone(), name.clone());
                Self { lead: Lead::Service, name, container: None, way: Way::Port { wanted, dialer } }
            }
        }
    }
}

impl AttachedBackend {
    /// Starts to watch; the cluster is contacted in the background and again whenever that fails.
    pub fn start(
        node: NodeName,
        to: Attachment,
        context: KubeContext,
        namespace: Option<String>,
        api_server: Option<String>,
    ) -> Self {
        let cluster = Arc::new(client::Cluster::new(context, namespace, api_server));
        let Attachment { lead, name, container, way } = to;
        let shared = Arc::new(Shared::new(View::theirs(lead, container)));
        let to = format!("{}/{name}", lead.kind());
        let followed = Followed { node, lead, name, selector: None, target: None };
        let follow = follow(Arc::clone(&cluster), followed, Arc::clone(&shared));
        let follow = AbortOnDropHandle::new(tokio::spawn(follow));
        Self { to, cluster, shared, lead, way, _follow: follow }
    }

    /// Where the Service leads to in a pod.
    fn door(&self, pod: &PodName, wanted: Option<&ServicePort>, transport: Transport) -> Result<Door, DialError> {
        let (address, port) = self.shared.read(|view| (view.address(pod), view.port(pod, wanted)));
        match port {
            Some(Ok(port)) => Ok(Door { address, port }),
            Some(Err(source)) => Err(DialError::Failed { pod: pod.clone(), transport, source: source.into() }),
            None => Err(DialError::Gone(pod.clone())),
        }
    }
}

#[async_trait::async_trait]
impl Backend for AttachedBackend {
    async fn apply(&self, replicas: u32) -> Result<(), ApplyError> {
        self.shared.change(|view| view.detach(replicas == 0));
        if replicas == 0 {
            return Ok(());
        }
        let _ = tokio::time::timeout(FIRST_LOOK, self.shared.subscribe().wait_for(|pods| pods.known)).await;
        if self.shared.read(View::is_there) != Some(false) {
            return Ok(());
        }
        let connection = self.cluster.connection().await?;
        Err(ApplyError::Refused {
            verb: "attach to",
            object: self.to.clone(),
            source: format!("it is not there in namespace {}", connection.namespace).into(),
        })
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.shared.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        match &self.way {
            Way::Exec => {
                let Some(pods::Entrance { container, address }) = self.shared.read(|view| view.entrance(pod)) else {
                    return Err(DialError::Gone(pod.clone()));
                };
                dial::by_exec(&self.cluster, pod, &container, address.as_deref()).await
            }
            Way::Port { wanted, dialer } => {
                let door = self.door(pod, wanted.as_ref(), Transport::PortForward)?;
                dialer.dial(&self.cluster, pod, &door).await
            }
        }
    }

    async fn logs(&self, pod: &PodName, wanted: LogsWanted) -> Result<LogStream, LogsError> {
        let Some(entrance) = self.shared.read(|view| view.entrance(pod)) else {
            return Err(LogsError::Gone(pod.clone()));
        };
        let failed = |source: errors::ConnectError| LogsError::Failed { pod: pod.clone(), source: source.into() };
        let connection = self.cluster.connection().await.map_err(failed)?;
        logs::stream(&connection, pod, &entrance.container, wanted).await
    }

    async fn delete(&self, _removal: Removal) -> Result<Removed, DeleteError> {
        self.shared.change(|view| view.detach(true));
        Ok(Removed::Released { users: Vec::new() })
    }

    async fn examine(&self) -> Vec<Finding> {
        examine::examine(self).await
    }
}
