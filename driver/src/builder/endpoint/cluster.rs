//! The address of pods in a cluster that somebody else runs: one pod, or those behind a Service.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::url::{Url, query_of};
use super::{Address, EndpointError};

/// Which pods, and in which cluster as far as it was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterAddress {
    target: ClusterTarget,
    context: Option<String>,
    namespace: Option<String>,
    kubeconfig: Option<PathBuf>,
}

/// How pods are found and reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterTarget {
    /// By exec of `buildctl` in a container; without a name, in the one that runs `buildkitd`.
    Pod { name: String, container: Option<String> },
    /// At a port of each pod that the Service selects; without one, at the only one that the Service has.
    Service { name: String, port: Option<ServicePort> },
}

/// A port as a Service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServicePort {
    Number(u16),
    Name(String),
}

impl ClusterAddress {
    pub fn target(&self) -> &ClusterTarget {
        &self.target
    }

    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// The same with what was left to the kubeconfig, which may say something else tomorrow.
    #[must_use]
    pub fn fixed(mut self, context: Option<String>, namespace: String) -> Self {
        self.context = context;
        self.namespace.get_or_insert(namespace);
        self
    }

    pub(super) fn pod(url: &Url) -> Result<Self, String> {
        let [context, namespace, container, kubeconfig] =
            url.query(["context", "namespace", "container", "kubeconfig"])?;
        let name = object("pod", url.only_host()?)?;
        let container = container.map(|container| object("container", &container)).transpose()?;
        Self::within(ClusterTarget::Pod { name, container }, context, namespace, kubeconfig)
    }

    pub(super) fn service(url: &Url) -> Result<Self, String> {
        let [context, namespace, kubeconfig] = url.query(["context", "namespace", "kubeconfig"])?;
        let (name, port) = url.host_and_port()?;
        let (name, port) = (object("Service", name)?, port.map(ServicePort::parse).transpose()?);
        Self::within(ClusterTarget::Service { name, port }, context, namespace, kubeconfig)
    }

    fn within(
        target: ClusterTarget,
        context: Option<String>,
        namespace: Option<String>,
        kubeconfig: Option<String>,
    ) -> Result<Self, String> {
        let namespace = namespace.map(|namespace| object("namespace", &namespace)).transpose()?;
        let kubeconfig = kubeconfig.map(PathBuf::from);
        if let Some(path) = kubeconfig.as_ref().filter(|path| !path.is_absolute()) {
            return Err(format!("its kubeconfig `{}` is not absolute", path.display()));
        }
        Ok(Self { target, context, namespace, kubeconfig })
    }
}

impl ServicePort {
    fn parse(text: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match text.parse::<u16>() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            Err(_) if text.contains(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_name) => {
                Ok(Self::Name(text.to_owned()))
            }
            _ => Err(format!("`{text}` is neither the number nor the name of a port")),
        }
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The names that BuildKit's clients take, which Kubernetes may still refuse.
fn object(what: &str, name: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let starts_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !starts_plain || name.len() > 253 || !name.chars().all(is_plain) {
        return Err(format!("`{name}` is no name of a {what}"));
    }
    Ok(name.to_owned())
}

impl fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let container = match &self.target {
            ClusterTarget::Pod { name, container } => {
                write!(f, "kube-pod://{name}")?;
                container.as_deref()
            }
            ClusterTarget::Service { name, port } => {
                write!(f, "kube-service://{name}")?;
                port.as_ref().map_or(Ok(()), |port| write!(f, ":{port}"))?;
                None
            }
        };
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.to_string_lossy());
        let pairs = [
            ("context", self.context.as_deref()),
            ("namespace", self.namespace.as_deref()),
            ("container", container),
            ("kubeconfig", kubeconfig.as_deref()),
        ];
        f.write_str(&query_of(pairs))
    }
}

impl TryFrom<String> for ClusterAddress {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        match Address::from_str(&text)? {
            Address::Cluster(address) => Ok(address),
            Address::Remote(_) => {
                Err(EndpointError::Address { given: text, problem: "it is in no cluster".to_owned() })
            }
        }
    }
}

impl From<ClusterAddress> for String {
    fn from(address: ClusterAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<ClusterAddress, String> {
        ClusterAddress::try_from(text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_in_a_cluster_round_trip() {
        for text in [
            "kube-pod://buildkitd-0",
            "kube-pod://buildkitd?context=prod&namespace=ci&container=builder&kubeconfig=/home/u/.kube/config",
            "kube-service://buildkitd",
            "kube-service://buildkitd:1234?namespace=ci",
            "kube-service://buildkitd:grpc?context=kind%40prod",
        ] {
            assert_eq!(address(text).unwrap().to_string(), text);
        }
        let bare = "kube-pod://buildkitd/?context=&namespace=&container=";
        assert_eq!(address(bare).unwrap().to_string(), "kube-pod://buildkitd");
    }

    #[test]
    fn what_the_kubeconfig_says_is_fixed_where_nothing_was_given() {
        let fixed = |text: &str| address(text).unwrap().fixed(Some("prod".to_owned()), "live".to_owned()).to_string();
        assert_eq!(fixed("kube-pod://b"), "kube-pod://b?context=prod&namespace=live");
        assert_eq!(fixed("kube-service://b:1?namespace=ci"), "kube-service://b:1?context=prod&namespace=ci");
    }

    #[test]
    fn what_names_no_pods_is_refused_with_the_reason() {
        for (given, wanted) in [
            ("kube-pod://", "`` is no name of a pod"),
            ("kube-pod://A", "`A` is no name of a pod"),
            ("kube-pod://a:1", "it takes no port"),
            ("kube-pod://a/b", "it takes no path"),
            ("kube-pod://a?namespace=A_B", "`A_B` is no name of a namespace"),
            ("kube-pod://a?container=-", "`-` is no name of a container"),
            ("kube-pod://a?pod=b", "unknown parameter `pod`: accepted are context, namespace, container, kubeconfig"),
            ("kube-pod://a?kubeconfig=./k", "its kubeconfig `./k` is not absolute"),
            ("kube-service://:1", "`` is no name of a Service"),
            ("kube-service://a:0", "`0` is neither the number nor the name of a port"),
            ("kube-service://a:99999", "`99999` is neither"),
            ("kube-service://a:A", "`A` is neither"),
            ("kube-service://u@a:1", "no user"),
            ("kube-service://a:1?container=x", "unknown parameter `container`: accepted are context, namespace"),
            ("tcp://h:1", "in no cluster"),
        ] {
            let error = address(given).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
