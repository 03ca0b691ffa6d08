//! Builds as Jobs in one namespace: made, followed to their end, listed and removed.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use bytes::Bytes;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::sync::mpsc;

use super::client::{Cluster, Connection};
use super::errors::{Asked, ask};
use super::live;
use crate::backend::{ApplyError, BoxError, StoryLine};
use crate::builder::{KubeContext, Node, PodName};
use crate::manifest::{self, JOB_SELECTOR, TLS_PORT, TLS_SERVER_NAME};

mod follow;
mod made;
mod output;
mod remove;
mod render;
mod run;
mod stuck;
mod telling;
mod upload;
mod watched;

pub use crate::manifest::{BuildPlace, JobBuild, RegistrySecret};
pub use remove::RemoveWhen;
pub use render::render;
pub use run::Wanted;
pub use upload::Pieces;

/// The Jobs of one namespace.
#[derive(Debug)]
pub struct Jobs {
    cluster: Cluster,
}

/// What happens to a Job, as it is told.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// It was made, or found.
    Job(JobView),
    /// Of a pod, or of the Job itself.
    News {
        pod: Option<String>,
        line: StoryLine,
    },
    Output(Bytes),
    /// Bytes of the context that the pod has taken.
    Uploaded(u64),
    End(JobEnd),
}

/// A Job, as lists show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobView {
    pub name: String,
    pub namespace: String,
    pub state: JobState,
    pub created: Option<SystemTime>,
    pub started: Option<SystemTime>,
    pub finished: Option<SystemTime>,
    pub pod: Option<String>,
    pub title: Option<String>,
    /// The machine.
    pub host: Option<String>,
    pub reason: Option<String>,
}

/// How far a Job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JobState {
    /// Its Secrets or its context are under way.
    #[default]
    Preparing,
    /// No pod builds yet.
    Waiting,
    Running,
    Succeeded,
    Failed,
    /// It is being removed.
    Canceled,
}

impl JobState {
    /// Whether nothing more comes of it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// How a Job came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// That of the build, when one came to its end.
    pub exit_code: Option<i32>,
    pub state: JobState,
    /// `Evicted`, `ImagePullBackOff`, `exit code 1`; empty for success.
    pub reason: String,
    pub detail: Option<String>,
}

/// What is told of a Job that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobFollow {
    /// Also what comes, until the end.
    pub follow: bool,
    /// Of the output, only the last lines.
    pub tail: Option<u32>,
}

/// Why something could not be done with a Job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Cluster(#[from] ApplyError),
    #[error("there is no job {name} in namespace {namespace}")]
    Missing { name: String, namespace: String },
    #[error("job {name} is there already in namespace {namespace}")]
    Exists { name: String, namespace: String },
    #[error("job {name} in namespace {namespace} is no build of buildfleet")]
    Foreign { name: String, namespace: String },
    #[error("there is no Secret {name} in namespace {namespace}")]
    NoSecret { name: String, namespace: String },
    #[error("Secret {name} in namespace {namespace} has no key {wanted}")]
    NoKey { name: String, namespace: String, wanted: String },
    #[error("there is no pod {pod} with an address in namespace {namespace}")]
    NoAddress { pod: String, namespace: String },
    #[error("job {0} is not over")]
    StillRuns(String),
    #[error("job {0} is over")]
    IsOver(String),
    #[error("failed to hand the context over to pod {pod}")]
    Upload {
        pod: String,
        #[source]
        source: BoxError,
    },
    /// Whoever sends it has gone away.
    #[error("the context has broken off")]
    BrokenOff,
}

impl JobError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::Exists { name, .. } => {
                Some(format!("`buildfleet job attach {name}` follows it, `buildfleet job rm {name}` removes it"))
            }
            Self::NoSecret { name, .. } => Some(format!(
                "make it by `kubectl create secret docker-registry {name}`, or log in to the registry by `docker login`"
            )),
            Self::StillRuns(name) => Some(format!("`buildfleet job cancel {name}` stops it")),
            _ => None,
        }
    }
}

/// The `buildkitd` of a builder's pod, by the certificates that the builder's clients have.
pub fn at_pod(node: &Node, address: IpAddr) -> BuildPlace {
    let keys = ["ca.pem", "client-cert.pem", "client-key.pem"];
    BuildPlace::Address {
        address: format!("tcp://{}", SocketAddr::new(address, TLS_PORT)),
        server_name: TLS_SERVER_NAME.to_owned(),
        secret: manifest::tls_secret_name(node),
        keys: keys.map(str::to_owned),
    }
}

/// The way to whoever follows a Job.
pub type Events = mpsc::Sender<JobEvent>;

impl Jobs {
    /// `namespace` overrides the context's. `api_server` is for the context [`KubeContext::InCluster`].
    pub fn new(context: KubeContext, namespace: Option<String>, api_server: Option<String>) -> Self {
        Self { cluster: Cluster::new(context, namespace, api_server) }
    }

    /// The namespace that it is about.
    ///
    /// # Errors
    /// When the cluster's credentials cannot be read.
    pub async fn namespace(&self) -> Result<String, JobError> {
        Ok(self.connection().await?.namespace)
    }

    /// The builds of the namespace, or of all of them, oldest first.
    ///
    /// # Errors
    /// When the cluster does not say.
    pub async fn list(&self, all_namespaces: bool) -> Result<Vec<JobView>, JobError> {
        let connection = self.connection().await?;
        let params = ListParams::default().labels(JOB_SELECTOR);
        let client = || connection.client.clone();
        let (jobs, pods): (Api<Job>, Api<Pod>) = match all_namespaces {
            true => (Api::all(client()), Api::all(client())),
            false => (live::api(&connection), live::api(&connection)),
        };
        let refused = |resource| Asked { verb: "list", resource, name: "" };
        let (jobs, pods) = tokio::join!(ask(jobs.list(&params)), ask(pods.list(&params)));
        let jobs = jobs.map_err(|error| refused("jobs").apply_error(&connection, error))?;
        let pods = pods.map_err(|error| refused("pods").apply_error(&connection, error))?;
        let mut views: Vec<JobView> = jobs.items.iter().map(|job| made::view(job, &pods.items)).collect();
        views.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        Ok(views)
    }

    /// The address of a pod of a builder.
    ///
    /// # Errors
    /// When it has none, or the cluster does not say.
    pub async fn address(&self, pod: &PodName) -> Result<IpAddr, JobError> {
        let connection = self.connection().await?;
        let params = ListParams::default().fields(&format!("metadata.name={pod}"));
        let asked = Asked { verb: "list", resource: "pods", name: pod.as_str() };
        let found = ask(live::api::<Pod>(&connection).list(&params)).await;
        let found = found.map_err(|error| asked.apply_error(&connection, error))?;
        let address = found.items.first().and_then(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok());
        address.ok_or_else(|| JobError::NoAddress { pod: pod.to_string(), namespace: connection.namespace })
    }

    async fn connection(&self) -> Result<Connection, JobError> {
        Ok(self.cluster.connection().await.map_err(ApplyError::from)?)
    }

    /// The Job of that name, when it is a build.
    async fn find(&self, connection: &Connection, name: &str) -> Result<Job, JobError> {
        let namespace = connection.namespace.clone();
        let asked = Asked { verb: "get", resource: "jobs", name };
        let found = ask(live::api::<Job>(connection).get_opt(name)).await;
        let found = found.map_err(|error| asked.apply_error(connection, error))?;
        match found {
            Some(job) if made::is_build(&job) => Ok(job),
            Some(_) => Err(JobError::Foreign { name: name.to_owned(), namespace }),
            None => Err(JobError::Missing { name: name.to_owned(), namespace }),
        }
    }
}
