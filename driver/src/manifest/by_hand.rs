//! Sets of objects that a user keeps by hand: the driver's pods, in objects that no daemon owns.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ContainerPort, Pod, PodSpec, PodTemplateSpec, SecretVolumeSource, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use super::{JobBuild, TLS_PORT, Workload, patch, pod};
use crate::builder::{Endpoint, KubeContext, Node, NodeName};
use crate::options::{APP_LABEL, HandKind, HandOptions, KubernetesOptions};

mod policy;
#[cfg(test)]
mod tests;
mod text;

pub use text::{kustomization, yaml};

/// Where `buildkitd` serves its metrics, and all else that it has for debugging.
const DEBUG_PORT: u16 = 6060;

/// What is rendered.
#[derive(Debug, Clone, Copy)]
pub struct ByHand<'a> {
    pub kind: HandKind,
    pub name: &'a NodeName,
    pub options: &'a HandOptions,
    pub network_policy: bool,
    /// Whether Prometheus finds the metrics by annotations.
    pub prometheus: bool,
    /// What a Job builds.
    pub build: &'a JobBuild,
}

/// The objects of a set, in the order in which they are applied. None of them is a Secret.
pub fn by_hand(set: &ByHand<'_>) -> Vec<Value> {
    let node = set.node();
    let mut objects = Vec::new();
    if set.network_policy {
        objects.push(value(&policy::network_policy(set)));
    }
    objects.extend(set.service().map(|service| value(&service)));
    objects.push(match set.kind {
        HandKind::Pod => value(&set.pod(&node)),
        HandKind::Job => value(&set.job(&node)),
        HandKind::Deployment => set.workload(Workload::Deployment(super::deployment(&node, set.kubernetes(), "", 1))),
        HandKind::StatefulSet => {
            set.workload(Workload::StatefulSet(super::stateful_set(&node, set.kubernetes(), "", 1)))
        }
    });
    if let Some(budget) = set.kubernetes().budget {
        let mut budget = super::disruption_budget(&node, budget, "");
        budget.metadata = set.metadata();
        objects.push(value(&budget));
    }
    objects
}

/// Objects of Kubernetes are plain data.
fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

impl ByHand<'_> {
    fn kubernetes(&self) -> &KubernetesOptions {
        &self.options.options
    }

    fn object_name(&self) -> String {
        self.name.object_name()
    }

    /// What the driver's own rendering is about.
    fn node(&self) -> Node {
        let debug = ["--debugaddr".to_owned(), format!("0.0.0.0:{DEBUG_PORT}")];
        Node {
            name: self.name.clone(),
            endpoint: Endpoint::Kubernetes(KubeContext::InCluster),
            driver_opts: BTreeMap::new(),
            platforms: Vec::new(),
            buildkitd_flags: if self.prometheus { debug.into() } else { Vec::new() },
            config: None,
        }
    }

    /// Nothing of it is by what `gc` finds what daemons have made. Without the label that finds builders: a Job may have the
    /// name of one.
    fn labels(&self) -> BTreeMap<String, String> {
        let (name, is_job) = (self.object_name(), self.kind == HandKind::Job);
        let (of, component) = if is_job { ("buildkit", "build") } else { ("buildkitd", "builder") };
        let known = [("name", of), ("instance", &name), ("component", component)];
        let known = known.map(|(label, value)| (format!("app.kubernetes.io/{label}"), value.to_owned()));
        known.into_iter().chain((!is_job).then(|| self.selected()).into_iter().flatten()).collect()
    }

    /// What the pods are found by.
    fn selected(&self) -> BTreeMap<String, String> {
        let label = if self.kind == HandKind::Job { "batch.kubernetes.io/job-name" } else { APP_LABEL };
        BTreeMap::from([(label.to_owned(), self.object_name())])
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.object_name()),
            namespace: self.kubernetes().namespace.clone(),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    /// Of what runs the pods, and of these: what the user says counts.
    fn decorated(&self) -> ObjectMeta {
        let options = self.kubernetes();
        ObjectMeta {
            labels: Some(self.labels().into_iter().chain(options.labels.clone()).collect()),
            annotations: Some(options.annotations.clone()).filter(|annotations| !annotations.is_empty()),
            ..self.metadata()
        }
    }

    fn of_pods(&self, template: PodTemplateSpec) -> PodTemplateSpec {
        let mut metadata = ObjectMeta { name: None, namespace: None, ..self.decorated() };
        let mut spec = template.spec.unwrap_or_default();
        if self.prometheus {
            let annotations = metadata.annotations.get_or_insert_default();
            for (name, value) in [("scrape", "true"), ("port", &DEBUG_PORT.to_string()), ("path", "/metrics")] {
                annotations.insert(format!("prometheus.io/{name}"), value.to_owned());
            }
            open_debug_port(&mut spec);
        }
        if let Some(secret) = self.options.tls_secret() {
            mount(&mut spec, secret);
        }
        PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
    }

    fn pod(&self, node: &Node) -> Pod {
        let PodTemplateSpec { metadata, spec } = self.of_pods(pod::template(node, self.kubernetes()));
        let metadata = ObjectMeta { annotations: metadata.and_then(|it| it.annotations), ..self.decorated() };
        Pod { metadata, spec, status: None }
    }

    fn job(&self, node: &Node) -> Job {
        let mut job = super::job(node, self.kubernetes(), "", self.build).job;
        job.metadata = self.decorated();
        if let Some(spec) = &mut job.spec {
            spec.template = self.of_pods(std::mem::take(&mut spec.template));
        }
        job
    }

    fn workload(&self, mut workload: Workload) -> Value {
        match &mut workload {
            Workload::Deployment(it) => {
                it.metadata = self.decorated();
                if let Some(spec) = &mut it.spec {
                    spec.replicas = self.replicas();
                    // `kubectl rollout undo` is for the user to use.
                    spec.revision_history_limit = None;
                    spec.template = self.of_pods(std::mem::take(&mut spec.template));
                }
            }
            Workload::StatefulSet(it) => {
                it.metadata = self.decorated();
                if let Some(spec) = &mut it.spec {
                    spec.replicas = self.replicas();
                    spec.revision_history_limit = None;
                    spec.service_name = Some(self.object_name());
                    spec.template = self.of_pods(std::mem::take(&mut spec.template));
                    for claim in spec.volume_claim_templates.iter_mut().flatten() {
                        claim.metadata.labels = Some(self.labels());
                    }
                }
            }
        }
        let workload = match &self.kubernetes().manifest_patch {
            Some(patch) => patch::apply(workload, patch),
            None => workload,
        };
        match workload {
            Workload::Deployment(it) => value(&it),
            Workload::StatefulSet(it) => value(&it),
        }
    }

    /// Where the user says nothing, another apply leaves alone what `kubectl scale` has said.
    fn replicas(&self) -> Option<i32> {
        self.options.replicas.map(|replicas| i32::try_from(replicas).unwrap_or(i32::MAX))
    }

    /// For who has a client certificate; of a StatefulSet also for the names of its pods.
    fn service(&self) -> Option<Service> {
        let headless = self.kind == HandKind::StatefulSet;
        let listens = self.options.tls_secret().is_some();
        let port = ServicePort {
            name: Some("buildkitd-mtls".to_owned()),
            port: i32::from(TLS_PORT),
            ..ServicePort::default()
        };
        (headless || listens).then(|| Service {
            metadata: self.metadata(),
            spec: Some(ServiceSpec {
                cluster_ip: headless.then(|| "None".to_owned()),
                selector: Some(self.selected()),
                ports: listens.then(|| vec![port]),
                ..ServiceSpec::default()
            }),
            status: None,
        })
    }
}

fn open_debug_port(spec: &mut PodSpec) {
    let port = ContainerPort {
        name: Some("debug".to_owned()),
        container_port: i32::from(DEBUG_PORT),
        ..ContainerPort::default()
    };
    if let Some(buildkitd) = spec.containers.first_mut() {
        buildkitd.ports.get_or_insert_default().push(port);
    }
}

/// The user's own Secret, which holds nothing but what the pods need, in the place of a node's.
fn mount(spec: &mut PodSpec, secret: &str) {
    for volume in spec.volumes.iter_mut().flatten().filter(|volume| volume.name == pod::CERTIFICATES_VOLUME) {
        volume.secret = volume.secret.take().map(|source| SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: None,
            ..source
        });
    }
}
