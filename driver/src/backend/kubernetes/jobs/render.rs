//! A Job as text for people: what would be made, without the values of its Secrets.

use std::fmt::Write as _;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::backend::kubernetes::compare;
use crate::builder::Node;
use crate::manifest::{self, JobBuild};
use crate::options::KubernetesOptions;

/// The YAML documents, in the order in which `kubectl apply` needs them.
pub fn render(node: &Node, options: &KubernetesOptions, namespace: &str, build: &JobBuild) -> String {
    let objects = manifest::job(node, options, namespace, build);
    let mut text = String::new();
    for secret in objects.secrets {
        let data = secret.data.unwrap_or_default().into_keys().map(|key| (key, ByteString(Vec::new())));
        text.push_str("---\n# Its values are left out.\n");
        text.push_str(&yaml(&Secret { data: Some(data.collect()), ..secret }));
    }
    if build.uploads_context {
        let name = node.name.object_name();
        let _ =
            write!(text, "---\n# `buildfleet job run --name {name}` hands the context over to its init container.\n");
    } else {
        text.push_str("---\n");
    }
    text.push_str(&yaml(&objects.job));
    text
}

fn yaml(object: &impl serde::Serialize) -> String {
    // Objects of Kubernetes are plain data.
    compare::yaml(&serde_json::to_value(object).unwrap_or_default())
}
