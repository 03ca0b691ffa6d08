//! The user's own patch of the workload, applied last.

use k8s_openapi::DeepMerge;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::options::ManifestPatch;

use super::Workload;

/// What items of lists are found by, as Kubernetes merges them.
const MERGE_KEYS: [&str; 6] = ["name", "mountPath", "containerPort", "devicePath", "ip", "topologyKey"];

/// The workload with the patch merged into it.
pub(super) fn apply(workload: Workload, patch: &ManifestPatch) -> Workload {
    match workload {
        Workload::Deployment(it) => Workload::Deployment(merged(it, patch)),
        Workload::StatefulSet(it) => Workload::StatefulSet(merged(it, patch)),
    }
}

/// What the patch sets is merged by the rules of Kubernetes' types, which know no way to take something away: nulls come
/// after them.
pub(super) fn merged<T: DeepMerge + Serialize + DeserializeOwned>(mut object: T, patch: &ManifestPatch) -> T {
    const WHY: &str = "the patch was held against this type when it was read";
    object.merge_from(serde_json::from_value(patch.values()).expect(WHY));
    let mut value = serde_json::to_value(&object).expect(WHY);
    take_away(&mut value, patch.whole());
    serde_json::from_value(value).expect(WHY)
}

fn take_away(from: &mut Value, patch: &Value) {
    match (from, patch) {
        (Value::Object(from), Value::Object(patch)) => {
            for (name, patch) in patch {
                if patch.is_null() {
                    from.remove(name);
                } else if let Some(from) = from.get_mut(name) {
                    take_away(from, patch);
                }
            }
        }
        (Value::Array(from), Value::Array(patch)) => {
            for patch in patch {
                let Some(key) = MERGE_KEYS.into_iter().find(|key| patch.get(key).is_some()) else { continue };
                if let Some(item) = from.iter_mut().find(|item| item.get(key) == patch.get(key)) {
                    take_away(item, patch);
                }
            }
        }
        _ => {}
    }
}
