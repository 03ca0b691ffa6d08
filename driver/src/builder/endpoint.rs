//! Where a node's pods come from: the driver and what it needs to find them again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::AttachTarget;

/// Why an endpoint or a driver's name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("unknown driver `{0}`: accepted are kubernetes, local and remote")]
    Driver(String),
    #[error("endpoint `{0}` is neither unix:///path nor tcp://host:port")]
    Address(String),
    #[error("the {driver} driver takes no endpoint, got `{endpoint}`")]
    Unwanted { driver: Driver, endpoint: String },
    #[error("the remote driver needs an endpoint: unix:///path or tcp://host:port")]
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

/// The address of a `buildkitd` that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RemoteAddress {
    Unix(PathBuf),
    /// `host:port`, not resolved.
    Tcp {
        host: String,
        port: u16,
    },
}

impl FromStr for RemoteAddress {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError::Address(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            let path = Path::new(path);
            return if path.is_absolute() { Ok(Self::Unix(path.to_owned())) } else { Err(error()) };
        }
        let (host, port) = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(error)?;
        let port = port.parse().map_err(|_| error())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', '@']) || port == 0 {
            return Err(error());
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl TryFrom<String> for RemoteAddress {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<RemoteAddress> for String {
    fn from(address: RemoteAddress) -> Self {
        address.to_string()
    }
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
}

impl Endpoint {
    pub fn driver(&self) -> Driver {
        match self {
            Self::Kubernetes(_) | Self::Attached { .. } => Driver::Kubernetes,
            Self::Local => Driver::Local,
            Self::Remote(_) => Driver::Remote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_addresses_round_trip() {
        for text in
            ["unix:///run/buildkit/buildkitd.sock", "tcp://10.0.0.1:1234", "tcp://[::1]:1234", "tcp://builder:1"]
        {
            assert_eq!(text.parse::<RemoteAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_remote_address_is_refused() {
        for text in [
            "",
            "unix://",
            "unix://relative",
            "tcp://host",
            "tcp://:1234",
            "tcp://h:0",
            "tcp://h:99999",
            "http://h:1",
            "/run/x.sock",
        ] {
            assert_eq!(text.parse::<RemoteAddress>(), Err(EndpointError::Address(text.to_owned())), "{text}");
        }
    }
}
