//! What the API server for tests says of the kinds that it serves.

use serde_json::{Value, json};

const KINDS: [(&str, &str, &str); 5] = [
    ("/api/v1", "Pod", "pods"),
    ("/api/v1", "Secret", "secrets"),
    ("/api/v1", "Service", "services"),
    ("/apis/apps/v1", "Deployment", "deployments"),
    ("/apis/apps/v1", "StatefulSet", "statefulsets"),
];

/// The list of a group's kinds, when that is what `path` asks for.
pub(super) fn kinds(path: &str) -> Option<Value> {
    let kinds: Vec<Value> = KINDS
        .iter()
        .filter(|(group, ..)| *group == path)
        .map(|(_, kind, name)| json!({"kind": kind, "name": name, "namespaced": true, "singularName": "", "verbs": ["get"]}))
        .collect();
    let version = path.trim_start_matches("/apis/").trim_start_matches("/api/");
    (!kinds.is_empty()).then(|| json!({"kind": "APIResourceList", "groupVersion": version, "resources": kinds}))
}
