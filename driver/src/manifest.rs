//! A node and its options into Kubernetes objects: pure and deterministic. Knows no client and no clock.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;

use crate::builder::Node;
use crate::options::KubernetesOptions;

/// Where `buildkitd` listens with mTLS inside a pod.
pub const TLS_PORT: u16 = 1234;

/// The name that the daemon certificate of every node carries; clients check for it instead of an address that changes.
pub const TLS_SERVER_NAME: &str = "buildkitd.buildfleet.internal";

/// PEM texts of one node's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSet {
    pub ca: String,
    pub daemon_cert: String,
    pub daemon_key: String,
    pub client_cert: String,
    pub client_key: String,
    /// RFC 3339; when the first of them ends.
    pub not_after: String,
}

/// The Deployment of a node with `replicas` pods in `namespace`.
pub fn deployment(node: &Node, options: &KubernetesOptions, namespace: &str, replicas: u32) -> Deployment {
    let _ = (node, options, namespace, replicas);
    Deployment::default()
}

/// The Secret that holds a node's certificates: `ca.pem`, `cert.pem`, `key.pem` for the pods, `client-cert.pem` and
/// `client-key.pem` for daemons, which the pods do not mount.
pub fn tls_secret(node: &Node, namespace: &str, certificates: &CertificateSet) -> Secret {
    let _ = (node, namespace, certificates);
    Secret::default()
}

/// The label selector that finds a node's pods.
pub fn selector(node: &Node) -> String {
    format!("app={}", node.name.object_name())
}
