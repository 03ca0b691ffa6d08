//! A node and its options into Kubernetes objects: pure and deterministic. Knows no client and no clock.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::builder::Node;
use crate::options::{APP_LABEL, Amount, Budget, KubernetesOptions, PLATFORM_ANNOTATION};

mod affinity;
mod by_hand;
mod certificates;
mod config;
mod drain;
mod job;
mod patch;
mod pod;
mod state;
#[cfg(test)]
mod tests;
mod workload;

pub use by_hand::{ByHand, by_hand, kustomization, yaml};
pub use certificates::files_secret;
pub use job::{
    BuildPlace, CLIENT_CONTAINER, CONTEXT_CONTAINER, CONTEXT_DIRECTORY, JOB_SELECTOR, JobBuild, JobObjects,
    RegistrySecret, SECRETS_DIRECTORY, TITLE_ANNOTATION, job, receive_context,
};
pub use pod::{CONTAINER, unix_address};
pub use workload::{Workload, WorkloadKind};

/// Where `buildkitd` listens with mTLS inside a pod.
pub const TLS_PORT: u16 = 1234;

/// The name that the daemon certificate of every node carries; clients check for it instead of an address that changes.
pub const TLS_SERVER_NAME: &str = "buildkitd.buildfleet.internal";

/// The annotation of the certificates' Secret that says when the first of them ends (RFC 3339).
pub const NOT_AFTER_ANNOTATION: &str = "buildfleet.internal/not-after";

/// The annotation of a workload that says when `gc` may take it.
pub const TTL_ANNOTATION: &str = "buildfleet.internal/ttl";

/// Old ReplicaSets are of no use: the options of an earlier `create` are not rolled back to.
const REVISIONS_KEPT: i32 = 2;

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

/// All that a node has in its namespace, but its certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// What `buildkitd` is configured by, with the keys that it names: a Secret, because they are.
    pub config: Option<Secret>,
    pub workload: Workload,
    pub budget: Option<PodDisruptionBudget>,
}

/// The objects of a node with `replicas` pods in `namespace`.
pub fn objects(node: &Node, options: &KubernetesOptions, namespace: &str, replicas: u32) -> Objects {
    let workload = match workload_kind(options) {
        WorkloadKind::Deployment => Workload::Deployment(deployment(node, options, namespace, replicas)),
        WorkloadKind::StatefulSet => Workload::StatefulSet(stateful_set(node, options, namespace, replicas)),
    };
    let workload = match &options.manifest_patch {
        Some(patch) => patch::apply(workload, patch),
        None => workload,
    };
    let budget = options.budget.map(|budget| disruption_budget(node, budget, namespace));
    Objects { config: config::secret(node, options, namespace), workload, budget }
}

/// What runs the pods of a node with these options.
pub fn workload_kind(options: &KubernetesOptions) -> WorkloadKind {
    if options.is_stateful() { WorkloadKind::StatefulSet } else { WorkloadKind::Deployment }
}

/// The name of the Secret that holds what `buildkitd` is configured by.
pub fn config_name(node: &Node) -> String {
    format!("{}-config", node.name.object_name())
}

/// The name of a node's workload, and of its disruption budget.
pub fn workload_name(node: &Node) -> String {
    node.name.object_name()
}

/// The Deployment of a node with `replicas` pods in `namespace`.
fn deployment(node: &Node, options: &KubernetesOptions, namespace: &str, replicas: u32) -> Deployment {
    Deployment {
        metadata: workload_metadata(node, options, namespace),
        spec: Some(DeploymentSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            revision_history_limit: Some(REVISIONS_KEPT),
            selector: selected(node),
            // An old pod goes only when its successor is ready: an image that cannot be pulled takes no builder away. One
            // that waits for its builds does not hold up the others: it is no longer counted.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: pod::template(node, options),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// The StatefulSet of a node with `replicas` pods in `namespace`.
fn stateful_set(node: &Node, options: &KubernetesOptions, namespace: &str, replicas: u32) -> StatefulSet {
    StatefulSet {
        metadata: workload_metadata(node, options, namespace),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            revision_history_limit: Some(REVISIONS_KEPT),
            selector: selected(node),
            // As buildx has it. There is no such Service: no pod is looked for by name.
            service_name: Some("buildkitd".to_owned()),
            // Pods need nothing of each other.
            pod_management_policy: Some("Parallel".to_owned()),
            volume_claim_templates: state::claims(node, options),
            template: pod::template(node, options),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn disruption_budget(node: &Node, budget: Budget, namespace: &str) -> PodDisruptionBudget {
    let amount = |amount| match amount {
        Amount::Pods(pods) => IntOrString::Int(pods),
        Amount::Percent(_) => IntOrString::String(amount.to_string()),
    };
    let (min_available, max_unavailable) = match budget {
        Budget::MinAvailable(pods) => (Some(amount(pods)), None),
        Budget::MaxUnavailable(pods) => (None, Some(amount(pods))),
    };
    PodDisruptionBudget {
        metadata: metadata(node, namespace, workload_name(node)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available,
            max_unavailable,
            selector: Some(selected(node)),
            // A pod that has never become ready serves nobody, and must not hold up a machine.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    }
}

/// The Secret that holds a node's certificates: `ca.pem`, `cert.pem`, `key.pem` for the pods, `client-cert.pem` and
/// `client-key.pem` for daemons, which the pods do not mount.
pub fn tls_secret(node: &Node, namespace: &str, certificates: &CertificateSet) -> Secret {
    let data = [
        ("ca.pem", &certificates.ca),
        ("cert.pem", &certificates.daemon_cert),
        ("key.pem", &certificates.daemon_key),
        ("client-cert.pem", &certificates.client_cert),
        ("client-key.pem", &certificates.client_key),
    ];
    let not_after = (NOT_AFTER_ANNOTATION.to_owned(), certificates.not_after.clone());
    Secret {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([not_after])),
            ..metadata(node, namespace, tls_secret_name(node))
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data.map(|(name, pem)| (name.to_owned(), ByteString(pem.clone().into_bytes()))).into()),
        ..Secret::default()
    }
}

/// The name of the Secret that holds a node's certificates.
pub fn tls_secret_name(node: &Node) -> String {
    format!("{}-tls", node.name.object_name())
}

/// The label selector that finds a node's pods.
pub fn selector(node: &Node) -> String {
    format!("{APP_LABEL}={}", node.name.object_name())
}

fn metadata(node: &Node, namespace: &str, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(node)),
        ..ObjectMeta::default()
    }
}

/// The labels of everything that belongs to a node.
fn labels(node: &Node) -> BTreeMap<String, String> {
    let mut labels = app_label(node);
    for (name, value) in [
        ("name", "buildkitd"),
        ("instance", &node.name.object_name()),
        ("component", "builder"),
        ("managed-by", "buildfleet"),
    ] {
        labels.insert(format!("app.kubernetes.io/{name}"), value.to_owned());
    }
    labels
}

fn app_label(node: &Node) -> BTreeMap<String, String> {
    BTreeMap::from([(APP_LABEL.to_owned(), node.name.object_name())])
}

/// The pods of a node.
fn selected(node: &Node) -> LabelSelector {
    LabelSelector { match_labels: Some(app_label(node)), match_expressions: None }
}

fn workload_metadata(node: &Node, options: &KubernetesOptions, namespace: &str) -> ObjectMeta {
    let mut annotations = workload_annotations(node, options);
    // Not on the pods, which would be replaced for it.
    annotations.extend(options.ttl.map(|ttl| (TTL_ANNOTATION.to_owned(), ttl.to_string())));
    ObjectMeta {
        labels: Some(workload_labels(node, options)),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        ..metadata(node, namespace, workload_name(node))
    }
}

/// The labels of the workload and of its pods: what the user says counts, where it may be said.
fn workload_labels(node: &Node, options: &KubernetesOptions) -> BTreeMap<String, String> {
    labels(node).into_iter().chain(options.labels.clone()).collect()
}

/// The annotations of the workload and of its pods.
fn workload_annotations(node: &Node, options: &KubernetesOptions) -> BTreeMap<String, String> {
    let platforms: Vec<String> = node.platforms.iter().map(ToString::to_string).collect();
    let platforms = (!platforms.is_empty()).then(|| (PLATFORM_ANNOTATION.to_owned(), platforms.join(",")));
    options.annotations.clone().into_iter().chain(platforms).collect()
}
