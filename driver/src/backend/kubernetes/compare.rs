//! Objects as users compare them: without what the cluster keeps there for itself, and without what is in secrets. Pure.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::diff;
use super::marks;
use crate::backend::Change;

/// Of an object's metadata, what somebody gave it.
const GIVEN: [&str; 4] = ["annotations", "labels", "name", "namespace"];

/// Annotations that are the cluster's or kubectl's own.
const THEIRS: [&str; 3] = [
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubectl.kubernetes.io/restartedAt",
];

/// Differences beyond these are only counted.
const PATHS_MAX: usize = 3;

/// An object as a user would write it.
pub(super) fn shown(object: &impl Serialize) -> Value {
    // Objects of Kubernetes are plain data; one that is not is shown as nothing.
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(top) = value.as_object_mut() {
        top.remove("status");
        if let Some(metadata) = top.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| GIVEN.contains(&name.as_str()));
            without_notes(metadata);
        }
    }
    if let Some(template) = value.pointer_mut("/spec/template/metadata").and_then(Value::as_object_mut) {
        template.remove("creationTimestamp");
        without_notes(template);
    }
    value
}

fn without_notes(metadata: &mut Map<String, Value>) {
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.retain(|name, _| !THEIRS.contains(&name.as_str()) && !marks::is_note(name));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// How `before` becomes `after`; `None` when both are shown alike. What is in secrets is never shown.
pub(super) fn change(object: String, before: Option<Value>, after: Option<Value>) -> Option<Change> {
    let (mut before, mut after) = (before.unwrap_or_default(), after.unwrap_or_default());
    hide(&mut before, &mut after);
    if before == after {
        return None;
    }
    Some(Change { object, diff: diff::unified(&yaml(&before), &yaml(&after)) })
}

pub(super) fn yaml(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    // JSON values have no keys or numbers that YAML lacks.
    serde_yaml_ng::to_string(value).unwrap_or_default()
}

/// Puts sizes in the place of a Secret's contents, and says which of them change.
fn hide(before: &mut Value, after: &mut Value) {
    if ![&*before, &*after].iter().any(|object| object["kind"] == "Secret") {
        return;
    }
    let (old, new) = (before["data"].clone(), after["data"].clone());
    let hidden = |content: &Value, state: &str| {
        let bytes = content.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4);
        json!(format!("{bytes} bytes{state}"))
    };
    for (object, other, state) in [(before, &new, ""), (after, &old, " (changed)")] {
        for (key, content) in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
            let differs = other.get(key).is_some_and(|other| other != content);
            *content = hidden(content, if differs { state } else { "" });
        }
    }
}

/// The places at which two objects differ, with their values while these are short, for one line.
pub(super) fn told(before: &Value, after: &Value) -> String {
    let mut places = Vec::new();
    walk("", before, after, &mut places);
    let more = places.len().saturating_sub(PATHS_MAX);
    places.truncate(PATHS_MAX);
    let told = places.join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

fn walk(path: &str, before: &Value, after: &Value, places: &mut Vec<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, &before[key.as_str()], &after[key.as_str()], places);
            }
        }
        // What is there on one side alone is told by its leaves.
        (Value::Null, Value::Object(there)) if !there.is_empty() => walk(path, &json!({}), after, places),
        (Value::Object(there), Value::Null) if !there.is_empty() => walk(path, before, &json!({}), places),
        (Value::Array(one), Value::Array(other)) if is_named(one) && is_named(other) => {
            let mut names: Vec<&str> = one.iter().chain(other).filter_map(|item| item["name"].as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let find = |list: &[Value], name: &str| list.iter().find(|item| item["name"] == name).cloned();
            for name in names {
                let (one, other) = (find(one, name).unwrap_or_default(), find(other, name).unwrap_or_default());
                walk(&format!("{path}[{name}]"), &one, &other, places);
            }
        }
        _ => places.push(format!("{path} {} -> {}", short(before), short(after))),
    }
}

fn is_named(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|item| item["name"].is_string())
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) if text.len() <= 60 && !text.contains('\n') => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => "(…)".to_owned(),
    }
}

/// With another number of pods.
pub(super) fn with_replicas(mut object: Value, replicas: Option<u32>) -> Value {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("replicas".to_owned(), json!(replicas));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(image: &str, annotations: &Value) -> Value {
        json!({
            "kind": "Deployment",
            "metadata": {
                "name": "kube0", "uid": "u", "resourceVersion": "7", "generation": 3, "managedFields": [],
                "annotations": annotations,
            },
            "spec": {"replicas": 2, "template": {
                "metadata": {"creationTimestamp": null, "labels": {"app": "kube0"}},
                "spec": {"containers": [{"name": "buildkitd", "image": image}]},
            }},
            "status": {"replicas": 2},
        })
    }

    #[test]
    fn an_object_is_shown_as_somebody_would_write_it() {
        let notes = json!({"deployment.kubernetes.io/revision": "4", "buildfleet.internal/user.a1": "x", "buildfleet.internal/applied": "h"});
        let value = shown(&deployment("a", &notes));
        let text = yaml(&value);
        assert_eq!(value["metadata"], json!({"name": "kube0"}), "{text}");
        assert!(!text.contains("status") && !text.contains("creationTimestamp"), "{text}");
    }

    #[test]
    fn what_changes_is_shown_old_and_new() {
        let (old, new) = (shown(&deployment("buildkit:1", &json!({}))), shown(&deployment("buildkit:2", &json!({}))));
        assert_eq!(change("deployment kube0".into(), Some(old.clone()), Some(old.clone())), None);
        let change = change("deployment kube0".into(), Some(old.clone()), Some(new.clone())).unwrap();
        assert!(change.diff.contains("-      - image: buildkit:1\n+      - image: buildkit:2\n"), "{}", change.diff);
        assert_eq!(told(&old, &new), "spec.template.spec.containers[buildkitd].image buildkit:1 -> buildkit:2");
    }

    #[test]
    fn what_is_in_a_secret_is_never_shown() {
        let secret = |toml: &str, key: &str| json!({"kind": "Secret", "metadata": {"name": "c"}, "data": {"a.toml": toml, "k.pem": key}});
        let change =
            change("secret c".into(), Some(secret("aGVsbG8=", "c2VjcmV0")), Some(secret("d29ybGQ=", "c2VjcmV0")));
        let diff = change.unwrap().diff;
        assert!(
            diff.contains("-  a.toml: 5 bytes\n+  a.toml: 5 bytes (changed)\n") && diff.contains("   k.pem: 6 bytes"),
            "{diff}"
        );
        for content in ["aGVsbG8", "d29ybGQ", "c2VjcmV0"] {
            assert!(!diff.contains(content), "{diff}");
        }
        let made = super::change("secret c".into(), None, Some(secret("aGVsbG8=", "c2VjcmV0"))).unwrap().diff;
        assert!(made.contains("+  k.pem: 6 bytes\n") && !made.contains("c2Vj"), "{made}");
    }

    #[test]
    fn many_differences_are_counted() {
        let many = |value: u32| json!({"spec": {"a": value, "b": value, "c": value, "d": value, "e": value}});
        assert_eq!(told(&many(1), &many(2)), "spec.a 1 -> 2, spec.b 1 -> 2, spec.c 1 -> 2 and 2 more");
        assert_eq!(told(&json!({"a": {}}), &json!({"a": {"b": "x"}})), "a.b nothing -> x");
        assert_eq!(told(&json!({}), &json!({"a": {"b": {"c": 7}}})), "a.b.c nothing -> 7");
        assert_eq!(told(&json!({"a": {"b": 7}}), &json!({})), "a.b 7 -> nothing");
    }
}
