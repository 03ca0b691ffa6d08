//! Values that are JSON or YAML documents, held against the types of Kubernetes.

use k8s_openapi::api::core::v1::{Affinity, TopologySpreadConstraint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::value::ValueError;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("it is empty")]
    Empty,
    #[error("it is neither JSON nor YAML: {0}")]
    Syntax(String),
    #[error("{0}")]
    Shape(String),
    #[error("`{0}` is no field that Kubernetes knows there")]
    Field(String),
}

pub(super) fn affinity(text: &str) -> Result<Affinity, ValueError> {
    typed(&read(text).map_err(ValueError::inner)?).map_err(ValueError::inner)
}

/// One constraint, or a list of them.
pub(super) fn topology_spread(text: &str) -> Result<Vec<TopologySpreadConstraint>, ValueError> {
    let list = match read(text).map_err(ValueError::inner)? {
        Value::Array(list) => list,
        one => vec![one],
    };
    let constraints = list.iter().map(typed).collect::<Result<Vec<TopologySpreadConstraint>, _>>();
    let constraints = constraints.map_err(ValueError::inner)?;
    match constraints.iter().find(|constraint| constraint.topology_key.is_empty()) {
        Some(_) => Err(ValueError::Inner("a constraint has no topologyKey".to_owned())),
        None => Ok(constraints),
    }
}

/// The document: JSON is YAML, too.
pub(super) fn read(text: &str) -> Result<Value, DocumentError> {
    if text.trim().is_empty() {
        return Err(DocumentError::Empty);
    }
    serde_saphyr::from_str(text).map_err(|error| {
        // The parser shows the place in lines of its own; an error here is one.
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        DocumentError::Syntax(first.strip_prefix("error: ").unwrap_or(first).to_owned())
    })
}

/// The document as one of Kubernetes' types, which has to know all of its fields.
pub(super) fn typed<T: DeserializeOwned + Serialize>(given: &Value) -> Result<T, DocumentError> {
    let typed: T = T::deserialize(given).map_err(|error| DocumentError::Shape(error.to_string()))?;
    let kept = serde_json::to_value(&typed).map_err(|error| DocumentError::Shape(error.to_string()))?;
    match lost(given, &kept) {
        Some(path) => Err(DocumentError::Field(path)),
        None => Ok(typed),
    }
}

/// The first field of `given` that `kept` does not have: a type skips what it does not know, and a slip of the keyboard
/// would be dropped in silence.
fn lost(given: &Value, kept: &Value) -> Option<String> {
    let below = |name: &str, path: String| if path.is_empty() { name.to_owned() } else { format!("{name}.{path}") };
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(name, value)| match kept.get(name) {
            Some(kept) => lost(value, kept).map(|path| below(name, path)),
            // An empty list or object may be left out.
            None if value.as_object().is_some_and(serde_json::Map::is_empty) => None,
            None if value.as_array().is_some_and(Vec::is_empty) => None,
            None => Some(name.clone()),
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(i, (given, kept))| lost(given, kept).map(|path| below(&i.to_string(), path))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_say_the_same() {
        let json = r#"{"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "kube0"}}}]}}"#;
        let yaml = "podAntiAffinity:\n  requiredDuringSchedulingIgnoredDuringExecution:\n  \
                    - topologyKey: kubernetes.io/hostname\n    labelSelector: {matchLabels: {app: kube0}}\n";
        assert_eq!(affinity(json), affinity(yaml));
        assert!(affinity(json).unwrap().pod_anti_affinity.is_some());
        let constraint = "{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}";
        let list = topology_spread(&format!("[{constraint}, {constraint}]")).unwrap();
        assert_eq!((list.len(), &list[..1]), (2, &topology_spread(constraint).unwrap()[..]));
    }

    #[test]
    fn what_kubernetes_would_not_understand_is_refused_by_its_name() {
        for (text, wanted) in [
            ("", "empty"),
            (" \n", "empty"),
            ("{", "neither JSON nor YAML"),
            ("@file", "neither JSON nor YAML"),
            ("true", "invalid type"),
            ("- a", "invalid type"),
            ("{nodeAffinty: {}, podAffinity: {preferred: 1}}", "`podAffinity.preferred` is no field"),
            ("{nodeAffinty: {a: 1}}", "`nodeAffinty` is no field"),
            (
                "{podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a, x: 1}]}}",
                "`podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.0.x` is no field",
            ),
            ("{podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: 1}}", "invalid type"),
        ] {
            let error = affinity(text).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains('\n'), "{text}: {error}");
        }
        assert!(topology_spread("{maxSkew: 1}").unwrap_err().to_string().contains("topologyKey"));
    }
}
