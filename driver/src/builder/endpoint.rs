//! Where a node's pods come from: the driver and what it needs to find them again.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::AttachTarget;

mod address;
mod cluster;
mod url;

pub use address::{Address, ContainerAddress, Engine, RemoteAddress, SshAddress};
pub use cluster::{ClusterAddress, ClusterTarget, ServicePort};

/// All addresses of a `buildkitd` that somebody else runs.
const ACCEPTED: &str = "unix:///path, tcp://host:port, ssh://[user@]host[:port][/socket], docker-container://NAME, \
     podman-container://NAME, nerdctl-container://NAME, kube-pod://POD and kube-service://NAME:PORT";

/// Why an endpoint or a driver's name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("unknown driver `{0}`: accepted are kubernetes, local and remote")]
    Driver(String),
    #[error("endpoint `{given}`: {problem}")]
    Address { given: String, problem: String },
    #[error("the {driver} driver takes no endpoint, got `{endpoint}`")]
    Unwanted { driver: Driver, endpoint: String },
    #[error("the remote driver needs an endpoint; accepted are {ACCEPTED}")]
    Missing,
}

/// What runs the pods of a builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Deployments in a cluster.
    Kubernetes,
    /// Child processes of the daemon.
    Local,
    /// A `buildkitd` that somebody else runs.
    Remote,
}

impl FromStr for Driver {
    type Err = EndpointError;

    fn from_str(name: &str) -> Result<Self, EndpointError> {
        match name {
            "kubernetes" => Ok(Self::Kubernetes),
            "local" => Ok(Self::Local),
            "remote" => Ok(Self::Remote),
            other => Err(EndpointError::Driver(other.to_owned())),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubernetes => "kubernetes",
            Self::Local => "local",
            Self::Remote => "remote",
        })
    }
}

/// Which cluster, fixed when the node is created: neither a later `kubectl config use-context` nor another `KUBECONFIG`
/// moves a builder to another cluster (docker/buildx#1697, #2436).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeContext {
    /// Files in the order of `$KUBECONFIG`, absolute, and the name of a context in them.
    File { paths: Vec<PathBuf>, context: String },
    /// The service account of the pod that the daemon runs in.
    InCluster,
}

/// What a node's backend needs to find its pods again after a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    Kubernetes(KubeContext),
    /// Pods in a cluster that somebody else runs.
    Attached {
        context: KubeContext,
        to: AttachTarget,
    },
    Local,
    Remote(RemoteAddress),
    /// Pods in a cluster that somebody else runs, by their address.
    Cluster {
        context: KubeContext,
        at: ClusterAddress,
    },
}

impl Endpoint {
    pub fn driver(&self) -> Driver {
        match self {
            Self::Kubernetes(_) | Self::Attached { .. } => Driver::Kubernetes,
            Self::Local => Driver::Local,
            Self::Remote(_) | Self::Cluster { .. } => Driver::Remote,
        }
    }
}
