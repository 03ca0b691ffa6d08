//! How the API server for tests takes new objects and patches: server-side apply by one manager, and merges by others, whose fields stay.

use serde_json::{Value, json};

use super::api_server::{Shared, status};

impl Shared {
    /// A new object, with an identity of its own.
    pub(super) fn made(&self, resource: &'static str, mut object: Value) -> Result<Value, Value> {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if self.state.lock().unwrap().objects.get(resource).is_some_and(|all| all.contains_key(&name)) {
            let mut status = status(409, &format!("{resource} \"{name}\" already exists"));
            status["reason"] = json!("AlreadyExists");
            return Err(status);
        }
        object["metadata"]["uid"] = json!(format!("uid of {name}"));
        Ok(self.put(resource, object))
    }

    /// An object as an apply leaves it: what was merged into it is somebody else's and stays.
    pub(super) fn applied(&self, resource: &'static str, name: &str, mut object: Value) -> Value {
        let state = self.state.lock().unwrap();
        let before = state.objects.get(resource).and_then(|all| all.get(name));
        for merged in state.merged.get(&(resource, name.to_owned())).into_iter().flatten() {
            merge(&mut object, merged);
        }
        let generation = before.map_or(0, |before| before["metadata"]["generation"].as_u64().unwrap_or_default());
        let same = before.is_some_and(|before| before["spec"] == object["spec"]);
        object["metadata"]["generation"] = json!(if same { generation } else { generation + 1 });
        object["metadata"]["uid"] = json!(format!("uid of {name}"));
        object
    }

    /// Whether an object is still as the request for its deletion says.
    pub(super) fn meets(&self, resource: &'static str, name: &str, request: &[u8]) -> bool {
        let request: Value = serde_json::from_slice(request).unwrap_or_default();
        let state = self.state.lock().unwrap();
        let Some(object) = state.objects.get(resource).and_then(|all| all.get(name)) else { return true };
        ["resourceVersion", "uid"].into_iter().all(|field| {
            let wanted = &request["preconditions"][field];
            wanted.is_null() || *wanted == object["metadata"][field]
        })
    }

    pub(super) fn merged(&self, resource: &'static str, name: &str, patch: &Value, dry_run: bool) -> Option<Value> {
        let mut object = self.state.lock().unwrap().objects.get(resource)?.get(name)?.clone();
        let spec = object["spec"].clone();
        merge(&mut object, patch);
        if dry_run {
            return Some(object);
        }
        if spec != object["spec"] {
            let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let patches = (resource, name.to_owned());
        if patch.get("metadata").is_some() {
            self.state.lock().unwrap().merged.entry(patches).or_default().push(patch.clone());
        }
        Some(self.put(resource, object))
    }
}

/// As RFC 7396 has it.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key.as_str()], value);
        }
    }
}
