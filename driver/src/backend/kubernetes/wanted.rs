//! What an order of this daemon makes of the node's objects, and which options that is. Pure.

use std::collections::BTreeMap;

use super::Target;
use super::marks;
use crate::manifest::{self, Objects, Workload};

/// On the pods: which certificates they started with. `buildkitd` reads its certificate once, so pods have to be
/// replaced when the Secret was.
const CERTIFICATES: &str = "buildfleet.internal/certificates-not-after";

/// The objects, and the options that they were made of.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) objects: Objects,
    pub(super) fingerprint: String,
}

impl Wanted {
    pub(super) fn of(target: &Target, namespace: &str, replicas: u32) -> Self {
        let of_options = manifest::objects(&target.node, &target.options, namespace, target.options.replicas);
        let fingerprint = marks::fingerprint(&text(&of_options));
        Self { objects: manifest::objects(&target.node, &target.options, namespace, replicas), fingerprint }
    }

    /// The same for pods that start with certificates, if with any, which end then.
    pub(super) fn with_certificates(mut self, end: Option<&str>) -> Self {
        if let (Some(end), Some(template)) = (end, self.objects.workload.template_mut()) {
            let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
            annotations.insert(CERTIFICATES.to_owned(), end.to_owned());
        }
        self
    }
}

/// When the certificates end that a live workload's pods started with.
pub(super) fn certificates_of(live: &mut Workload) -> Option<String> {
    let annotations: &BTreeMap<String, String> = live.template_mut()?.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(CERTIFICATES).cloned()
}

/// All objects as YAML documents that `kubectl apply` takes.
pub(super) fn documents(target: &Target, namespace: &str) -> String {
    let objects = manifest::objects(&target.node, &target.options, namespace, target.options.replicas);
    let mut text = String::new();
    if target.options.transport.needs_tls() {
        let name = manifest::tls_secret_name(&target.node);
        text.push_str(&format!(
            "# Secret {name} is left out: `create --bootstrap`, or the first build, makes its certificates.\n"
        ));
    }
    each(&objects, |object| {
        text.push_str("---\n");
        text.push_str(&super::compare::yaml(object));
    });
    text
}

fn text(objects: &Objects) -> String {
    let mut text = String::new();
    each(objects, |object| text.push_str(&object.to_string()));
    text
}

/// In the order in which they are made.
fn each(objects: &Objects, mut tell: impl FnMut(&serde_json::Value)) {
    let Objects { config, workload, budget } = objects;
    // Objects of Kubernetes are plain data.
    let mut tell = |object: Result<serde_json::Value, _>| tell(&object.unwrap_or_default());
    if let Some(config) = config {
        tell(serde_json::to_value(config));
    }
    match workload {
        Workload::Deployment(it) => tell(serde_json::to_value(it)),
        Workload::StatefulSet(it) => tell(serde_json::to_value(it)),
    }
    if let Some(budget) = budget {
        tell(serde_json::to_value(budget));
    }
}
