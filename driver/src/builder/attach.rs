//! Pods that somebody else runs, as the user names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text names no pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--attach `{0}` is none of deployment/NAME, statefulset/NAME and pod/NAME")]
pub struct AttachError(String);

/// What runs the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachKind {
    Deployment,
    StatefulSet,
    /// The pod itself is named.
    Pod,
}

/// A workload, or a pod, of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttachTarget {
    kind: AttachKind,
    name: String,
}

impl AttachTarget {
    pub fn kind(&self) -> AttachKind {
        self.kind
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for AttachTarget {
    type Err = AttachError;

    /// With the names that `kubectl` takes for the kinds.
    fn from_str(text: &str) -> Result<Self, AttachError> {
        let error = || AttachError(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(error)?;
        let kind = match kind {
            "deployment" | "deployments" | "deploy" | "deployment.apps" => AttachKind::Deployment,
            "statefulset" | "statefulsets" | "sts" | "statefulset.apps" => AttachKind::StatefulSet,
            "pod" | "pods" | "po" => AttachKind::Pod,
            _ => return Err(error()),
        };
        let is_dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 253 || !name.chars().all(is_dns) {
            return Err(error());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl fmt::Display for AttachTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            AttachKind::Deployment => "deployment",
            AttachKind::StatefulSet => "statefulset",
            AttachKind::Pod => "pod",
        };
        write!(f, "{kind}/{}", self.name)
    }
}

impl TryFrom<String> for AttachTarget {
    type Error = AttachError;

    fn try_from(text: String) -> Result<Self, AttachError> {
        text.parse()
    }
}

impl From<AttachTarget> for String {
    fn from(target: AttachTarget) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_for_kubectl() {
        for (given, wanted) in [
            ("deployment/buildkitd", "deployment/buildkitd"),
            ("deploy/a.b-1", "deployment/a.b-1"),
            ("sts/buildkitd", "statefulset/buildkitd"),
            ("statefulset.apps/b", "statefulset/b"),
            ("po/buildkitd-0", "pod/buildkitd-0"),
        ] {
            assert_eq!(given.parse::<AttachTarget>().unwrap().to_string(), wanted, "{given}");
        }
    }

    #[test]
    fn what_names_no_pods_is_refused_with_the_text() {
        for given in ["", "buildkitd", "deployment/", "service/buildkitd", "pod/a/b", "pod/A", "pod/a,b=c", "Pod/a"] {
            assert_eq!(given.parse::<AttachTarget>(), Err(AttachError(given.to_owned())), "{given}");
        }
    }
}
