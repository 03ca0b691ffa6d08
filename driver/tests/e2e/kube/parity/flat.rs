//! The objects of a builder as paths and values, with lists by what their items are known by.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use toml_edit::{DocumentMut, Item};

/// What each object has of its own, or of when it was made.
const OF_ONE: [&str; 6] = [
    "metadata.uid",
    "metadata.resourceVersion",
    "metadata.creationTimestamp",
    "metadata.generation",
    "status",
    "metadata.managedFields",
];

/// Written by the cluster's controllers at a time of their own.
const OF_CONTROLLERS: [&str; 1] = ["metadata.annotations.deployment.kubernetes.io/revision"];

/// All that belongs to the node `name`: its workload, the names and kinds of its other objects, and the files that its pods
/// would see.
pub(super) fn builder(name: &str, namespace: &str, objects: &[Value]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let is_workload = |object: &&Value| matches!(object["kind"].as_str(), Some("Deployment" | "StatefulSet"));
    let workload = objects.iter().filter(is_workload).find(|object| object["metadata"]["name"] == name);
    let workload = workload.expect("each option set has a workload");
    flatten("", workload, &mut fields);
    fields.retain(|path, _| {
        let below =
            |field: &&str| path.strip_prefix(*field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        !OF_ONE.iter().any(&below) && !OF_CONTROLLERS.iter().any(below)
    });
    let mut fields: BTreeMap<String, String> = fields.into_iter().map(|(path, value)| (short(&path), value)).collect();
    assert_eq!(fields.remove("metadata.namespace").as_deref(), Some(namespace));
    for object in objects.iter().filter(|object| !is_workload(object)) {
        let (kind, of) = (&object["kind"], object["metadata"]["name"].as_str().unwrap_or_default());
        if let Some(suffix) = of.strip_prefix(name).filter(|suffix| is_suffix(suffix)) {
            fields.insert(format!("objects.{}{suffix}", kind.as_str().unwrap_or_default()), "there".to_owned());
        }
    }
    files(workload, objects, &mut fields);
    fields
}

/// `pod.…` and `buildkitd.…` for what is deep in the workload.
fn short(path: &str) -> String {
    for (long, short) in [
        ("spec.template.spec.containers.buildkitd.", "buildkitd."),
        ("spec.template.spec.", "pod."),
        ("spec.template.metadata.", "pod-metadata."),
        ("spec.volumeClaimTemplates.buildkitd.", "claim."),
    ] {
        if let Some(rest) = path.strip_prefix(long) {
            return format!("{short}{rest}");
        }
    }
    path.to_owned()
}

/// As in `-config`, `-config-1` and `-tls`: another node's name may begin as this one's.
fn is_suffix(suffix: &str) -> bool {
    let number = suffix.strip_prefix("-config-").is_some_and(|n| n.bytes().all(|digit| digit.is_ascii_digit()));
    number || ["", "-config", "-tls"].contains(&suffix)
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| flatten(&below(name), value, fields)),
        // Arguments count by what they are: each has its place between others.
        Value::Array(list) if path.ends_with(".args") => {
            for argument in list {
                fields.insert(below(argument.as_str().unwrap_or_default()), "given".to_owned());
            }
        }
        Value::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                let known_by = item["mountPath"].as_str().or_else(|| item["name"].as_str().or(item["key"].as_str()));
                let own = item["metadata"]["name"].as_str();
                flatten(&below(known_by.or(own).unwrap_or(&i.to_string())), item, fields);
            }
        }
        Value::String(text) => drop(fields.insert(path.to_owned(), text.clone())),
        other => drop(fields.insert(path.to_owned(), other.to_string())),
    }
}

/// What stands where in the container, from whatever object it comes.
fn files(workload: &Value, objects: &[Value], fields: &mut BTreeMap<String, String>) {
    let pod = &workload["spec"]["template"]["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for mount in list(&pod["containers"][0]["volumeMounts"]) {
        let volume = list(&pod["volumes"]).into_iter().find(|volume| volume["name"] == mount["name"]);
        let Some(volume) = volume else { continue };
        let (kind, source) = match (&volume["configMap"], &volume["secret"]) {
            (Value::Null, Value::Null) => continue,
            (Value::Null, secret) => ("Secret", secret["secretName"].clone()),
            (map, _) => ("ConfigMap", map["name"].clone()),
        };
        let object = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == source);
        let data = object.and_then(|object| object["data"].as_object()).expect("the volume's object");
        let items = list(&volume[if kind == "Secret" { "secret" } else { "configMap" }]["items"]);
        for (key, content) in data {
            let path = match items.iter().find(|item| item["key"] == **key) {
                Some(item) => item["path"].as_str().unwrap_or_default(),
                None if items.is_empty() => key,
                None => continue,
            };
            let content = content.as_str().unwrap_or_default();
            let content = match kind {
                "Secret" => String::from_utf8(STANDARD.decode(content).expect("base64")).expect("text"),
                _ => content.to_owned(),
            };
            let place = format!("files.{}/{path}", mount["mountPath"].as_str().unwrap_or_default());
            match path.ends_with(".toml") {
                true => toml(&place, content.parse::<DocumentMut>().expect("TOML").as_item(), fields),
                false => drop(fields.insert(place, content)),
            }
        }
    }
}

/// What it says, however it is written.
fn toml(path: &str, item: &Item, fields: &mut BTreeMap<String, String>) {
    if let Some(table) = item.as_table_like() {
        table.iter().for_each(|(name, item)| toml(&format!("{path}.{name}"), item, fields));
    } else if let Some(tables) = item.as_array_of_tables() {
        for (i, table) in tables.iter().enumerate() {
            table.iter().for_each(|(name, item)| toml(&format!("{path}.{i}.{name}"), item, fields));
        }
    } else if let Some(list) = item.as_array() {
        for (i, value) in list.iter().enumerate() {
            toml(&format!("{path}.{i}"), &Item::Value(value.clone()), fields);
        }
    } else {
        let mut value = item.as_value().cloned().expect("a value");
        // Without the comment behind it.
        value.decor_mut().clear();
        fields.insert(path.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
}
