//! What runs a node's pods: a Deployment, or a StatefulSet where each pod has a volume that outlives it.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The kinds of workload that a node can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
}

impl WorkloadKind {
    /// The resource, as Roles and URLs name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
        }
    }
}

/// A workload, as it should be or as it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Workload {
    Deployment(Deployment),
    StatefulSet(StatefulSet),
}

impl Workload {
    pub fn kind(&self) -> WorkloadKind {
        match self {
            Self::Deployment(_) => WorkloadKind::Deployment,
            Self::StatefulSet(_) => WorkloadKind::StatefulSet,
        }
    }

    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Deployment(it) => &it.metadata,
            Self::StatefulSet(it) => &it.metadata,
        }
    }

    /// As errors name it: `deployment kube0`.
    pub fn called(&self) -> String {
        let kind = self.kind().resource().trim_end_matches('s');
        format!("{kind} {}", self.metadata().name.as_deref().unwrap_or_default())
    }

    /// How many pods it is to have.
    pub fn replicas(&self) -> Option<u32> {
        let replicas = match self {
            Self::Deployment(it) => it.spec.as_ref()?.replicas?,
            Self::StatefulSet(it) => it.spec.as_ref()?.replicas?,
        };
        u32::try_from(replicas).ok()
    }

    /// The template of its pods; `None` for an object without a spec, which the API server never gives out.
    pub fn template_mut(&mut self) -> Option<&mut PodTemplateSpec> {
        match self {
            Self::Deployment(it) => it.spec.as_mut().map(|spec| &mut spec.template),
            Self::StatefulSet(it) => it.spec.as_mut().map(|spec| &mut spec.template),
        }
    }
}
