//! What an endpoint of the remote driver needs beside it: a cluster that is fixed, and options that fit it. Pure.

use std::path::{Path, PathBuf};

use super::Locate;
use crate::builder::{ClusterAddress, ClusterTarget, DriverOpts, Endpoint, KubeContext, RemoteAddress};

/// The files of TLS.
const TLS: [&str; 4] = ["cacert", "cert", "key", "servername"];

/// What only a Service, which may have several pods and ways to them, has a use for.
const OF_SERVICES: [&str; 2] = ["loadbalance", "transport"];

/// The address with its cluster and namespace. What it does not say is taken from the files and the context of the request.
pub(super) fn fixed(
    at: ClusterAddress,
    paths: Vec<PathBuf>,
    context: Option<String>,
    locate: Locate<'_>,
) -> Result<Endpoint, String> {
    let paths = at.kubeconfig().map(Path::to_owned).map_or(paths, |path| vec![path]);
    let wanted = at.context().map(str::to_owned).or(context);
    let (context, namespace) = locate(paths, wanted)?;
    let name = match &context {
        KubeContext::File { context, .. } => Some(context.clone()),
        KubeContext::InCluster => None,
    };
    let at = at.fixed(name, namespace.unwrap_or_else(|| "default".to_owned()));
    Ok(Endpoint::Cluster { context, at })
}

/// Options that mean nothing at an endpoint, and those that it cannot do without. `kept` are those of the node as it was.
pub(super) fn problems(endpoint: &Endpoint, given: &DriverOpts, kept: Option<&DriverOpts>) -> Vec<String> {
    let (scheme, tls, service) = match endpoint {
        Endpoint::Remote(RemoteAddress::Tcp { .. }) => ("tcp://", true, false),
        Endpoint::Remote(RemoteAddress::Unix(_)) => ("unix://", false, false),
        Endpoint::Remote(RemoteAddress::Ssh(_)) => ("ssh://", false, false),
        Endpoint::Remote(RemoteAddress::Container(_)) => ("a container", false, false),
        Endpoint::Cluster { at, .. } => match at.target() {
            ClusterTarget::Pod { .. } => ("kube-pod://", false, false),
            ClusterTarget::Service { .. } => ("kube-service://", true, true),
        },
        Endpoint::Kubernetes(_) | Endpoint::Attached { .. } | Endpoint::Local => return Vec::new(),
    };
    let mut problems = Vec::new();
    for key in given.keys() {
        if !tls && TLS.contains(&key.as_str()) {
            problems.push(format!(
                "driver option `{key}`: TLS is for tcp:// and kube-service://, and {scheme} is reached without"
            ));
        }
        if !service && OF_SERVICES.contains(&key.as_str()) {
            problems.push(format!(
                "driver option `{key}`: it is for the pods of kube-service://, and at {scheme} is one buildkitd with one way to it"
            ));
        }
    }
    let has =
        |key: &str| given.contains_key(key) || given.is_empty() && kept.is_some_and(|kept| kept.contains_key(key));
    if service && !has("cacert") {
        problems.push(
            "driver option `cacert`: kube-service:// needs it, because a port of a pod is spoken to by TLS alone; \
             kube-pod://NAME does without"
                .to_owned(),
        );
    }
    problems
}
