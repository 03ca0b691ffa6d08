//! `manifest-patch`: what a user has to say about the workload that no option says.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde_json::Value;

use super::document::{self, DocumentError};
use super::pairs;

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error("{0}")]
    Document(String),
    #[error("it is no object")]
    NoObject,
    #[error("it may not change `{path}`: {reason}")]
    Protected { path: String, reason: &'static str },
    #[error("`{0}` has an item without a name")]
    Nameless(&'static str),
    #[error("`{0}` is no field but a directive: a patch adds, replaces, and takes away what it sets to null")]
    Directive(String),
}

impl From<DocumentError> for PatchError {
    fn from(error: DocumentError) -> Self {
        Self::Document(error.to_string())
    }
}

/// A strategic merge patch of the workload, applied last: lists whose items have names are merged by these, others are
/// replaced, and null takes a field away.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestPatch(Value);

/// What the driver finds its objects and pods by, or changes itself.
const PROTECTED: [(&str, &str); 9] = [
    ("status", "it is the cluster's"),
    ("metadata.name", "it follows from the node's name"),
    ("metadata.generateName", "it follows from the node's name"),
    ("metadata.namespace", "`namespace` says it"),
    ("spec.replicas", "`replicas` says it"),
    ("spec.selector", "it finds the node's pods"),
    ("spec.template.metadata.name", "pods are named by their workload"),
    ("spec.template.metadata.namespace", "`namespace` says it"),
    ("spec.template.spec.restartPolicy", "the workload's pods are always restarted"),
];

/// Lists whose items are found by their names.
const NAMED: [&str; 2] = ["spec.template.spec.containers", "spec.template.spec.initContainers"];

impl ManifestPatch {
    /// Reads a patch in JSON or YAML.
    ///
    /// # Errors
    /// When it is none, or touches what the driver needs as it is.
    pub fn parse(text: &str) -> Result<Self, PatchError> {
        let patch = document::read(text)?;
        if !patch.is_object() {
            return Err(PatchError::NoObject);
        }
        if let Some(directive) = directive(&patch) {
            return Err(PatchError::Directive(directive.to_owned()));
        }
        for (path, reason) in PROTECTED {
            if let Some(path) = touched(&patch, path) {
                return Err(PatchError::Protected { path, reason });
            }
        }
        for metadata in ["metadata", "spec.template.metadata"] {
            for (kind, is_reserved) in [
                ("labels", pairs::is_reserved_label as fn(&str) -> bool),
                ("annotations", pairs::is_reserved_annotation),
            ] {
                let path = format!("{metadata}.{kind}");
                let given = at(&patch, &path).and_then(Value::as_object);
                if let Some(key) = given.and_then(|given| given.keys().find(|key| is_reserved(key))) {
                    return Err(PatchError::Protected { path: format!("{path}.{key}"), reason: "it is reserved" });
                }
                if at(&patch, &path).is_some_and(Value::is_null) {
                    return Err(PatchError::Protected { path, reason: "some of them are reserved" });
                }
            }
        }
        for path in NAMED {
            let items = at(&patch, path).and_then(Value::as_array).into_iter().flatten();
            if items.into_iter().any(|item| item["name"].as_str().is_none_or(str::is_empty)) {
                return Err(PatchError::Nameless(path));
            }
        }
        if at(&patch, NAMED[0]).is_some_and(Value::is_null) {
            return Err(PatchError::Protected { path: NAMED[0].to_owned(), reason: "`buildkitd` runs there" });
        }
        Ok(Self(patch))
    }

    /// Whether it fits the kind of workload that it is for.
    ///
    /// # Errors
    /// At the first field that Kubernetes does not know in one.
    pub(super) fn check(&self, is_stateful: bool) -> Result<(), PatchError> {
        if is_stateful {
            document::typed::<StatefulSet>(&self.values())?;
        } else {
            document::typed::<Deployment>(&self.values())?;
        }
        Ok(())
    }

    /// What it adds or replaces.
    pub(crate) fn values(&self) -> Value {
        without_nulls(&self.0)
    }

    /// All of it, with null for what it takes away.
    pub(crate) fn whole(&self) -> &Value {
        &self.0
    }
}

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, name| value.get(name))
}

/// The part of `path` by which the patch touches it: all of it, or what is taken away with everything below.
fn touched(patch: &Value, path: &str) -> Option<String> {
    let mut value = patch;
    let mut walked = String::new();
    for name in path.split('.') {
        if !walked.is_empty() {
            walked.push('.');
        }
        walked.push_str(name);
        value = value.get(name)?;
        if value.is_null() {
            return Some(walked);
        }
    }
    Some(walked)
}

/// A key of `kubectl`'s own patches, as in `$patch: delete`.
fn directive(value: &Value) -> Option<&str> {
    match value {
        Value::Object(object) => object.iter().find_map(|(name, value)| match name.starts_with('$') {
            true => Some(name.as_str()),
            false => directive(value),
        }),
        Value::Array(list) => list.iter().find_map(directive),
        _ => None,
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
        }
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, is_stateful: bool) -> Result<(), String> {
        ManifestPatch::parse(text).and_then(|patch| patch.check(is_stateful)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_patch_is_for_the_workload_that_there_is() {
        for text in [
            "{}",
            "{metadata: {annotations: {a: b}, labels: {team: x}}}",
            "{apiVersion: apps/v1, kind: Deployment, spec: {strategy: {type: Recreate, rollingUpdate: null}}}",
            "{spec: {template: {spec: {containers: [{name: buildkitd, livenessProbe: null, tty: true}]}}}}",
            "{spec: {template: {spec: {hostNetwork: true, dnsConfig: {nameservers: [10.0.0.1]}}}}}",
        ] {
            assert_eq!(verdict(text, false), Ok(()), "{text}");
        }
        assert_eq!(verdict("{spec: {updateStrategy: {type: OnDelete}}}", true), Ok(()));
        for (text, is_stateful, wanted) in [
            ("{spec: {updateStrategy: {type: OnDelete}}}", false, "`spec.updateStrategy` is no field"),
            ("{spec: {strategy: {type: Recreate}}}", true, "`spec.strategy` is no field"),
            ("{spec: {template: {spec: {hostNetwrok: true}}}}", false, "`spec.template.spec.hostNetwrok` is no field"),
            ("{spec: {template: {spec: {hostNetwork: 1}}}}", false, "invalid type"),
            ("{kind: Pod}", false, "Pod"),
        ] {
            let error = verdict(text, is_stateful).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn what_the_driver_needs_as_it_is_cannot_be_touched() {
        for (text, path) in [
            ("{metadata: {name: x}}", "metadata.name"),
            ("{metadata: {namespace: x}}", "metadata.namespace"),
            ("{metadata: {labels: {app: x}}}", "metadata.labels.app"),
            ("{metadata: {labels: {app: null}}}", "metadata.labels.app"),
            ("{metadata: {labels: null}}", "metadata.labels"),
            ("{metadata: null}", "metadata"),
            (
                "{metadata: {annotations: {buildfleet.internal/owner: x}}}",
                "metadata.annotations.buildfleet.internal/owner",
            ),
            ("{spec: {selector: {}}}", "spec.selector"),
            ("{spec: {replicas: 3}}", "spec.replicas"),
            ("{spec: null}", "spec"),
            ("{spec: {template: null}}", "spec.template"),
            ("{spec: {template: {metadata: {labels: {app: x}}}}}", "spec.template.metadata.labels.app"),
            ("{spec: {template: {metadata: null}}}", "spec.template.metadata"),
            ("{spec: {template: {spec: null}}}", "spec.template.spec"),
            ("{spec: {template: {spec: {containers: null}}}}", "spec.template.spec.containers"),
            ("{spec: {template: {spec: {restartPolicy: Never}}}}", "spec.template.spec.restartPolicy"),
            ("{status: {}}", "status"),
        ] {
            let error = verdict(text, false).unwrap_err();
            assert!(error.contains(&format!("may not change `{path}`")), "{text}: {error}");
        }
        for (text, wanted) in [
            ("[]", "no object"),
            ("text", "no object"),
            ("", "empty"),
            ("{spec: {template: {spec: {containers: [{image: x}]}}}}", "without a name"),
            ("{spec: {template: {spec: {initContainers: [{name: ''}]}}}}", "without a name"),
            (
                "{spec: {template: {spec: {volumes: [{name: a, $patch: delete}]}}}}",
                "`$patch` is no field but a directive",
            ),
        ] {
            assert!(verdict(text, false).unwrap_err().contains(wanted), "{text}");
        }
    }
}
