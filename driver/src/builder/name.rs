//! Names of builders, nodes and pods, checked once and never plain strings again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest node name whose Deployment can still name its pods: 63 characters of a DNS label less the
/// `-<10 of the ReplicaSet>-<5 of the pod>` that Kubernetes appends.
const NODE_NAME_MAX: usize = 46;

/// The longest builder name: it has to leave room for the node number.
const BUILDER_NAME_MAX: usize = 42;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("name `{0}` has to start with a letter and may hold letters, digits, `.`, `_` and `-`")]
    Characters(String),
    #[error("name `{name}` has {length} characters, at most {max} leave room for the pods' names")]
    TooLong { name: String, length: usize, max: usize },
    #[error("name `{0}` is reserved")]
    Reserved(String),
}

/// buildx's rule for names (`util/cobrautil` and `store` in v0.36): a letter, then letters, digits, `.`, `_`, `-`; lower-cased.
fn parse(name: &str, max: usize) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(allowed) {
        return Err(NameError::Characters(name.to_owned()));
    }
    if name.len() > max {
        return Err(NameError::TooLong { name: name.to_owned(), length: name.len(), max });
    }
    Ok(name.to_ascii_lowercase())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

name_type! {
    /// The name of a builder, as in `docker buildx build --builder NAME`.
    BuilderName
}

name_type! {
    /// The name of a node of a builder; unique within the daemon, because sockets and Deployments are named by it.
    NodeName
}

name_type! {
    /// The name of one running `buildkitd`: a Kubernetes pod, or one process of the local backend.
    PodName
}

impl FromStr for BuilderName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let name = parse(name, BUILDER_NAME_MAX)?;
        if name == "default" {
            return Err(NameError::Reserved(name));
        }
        Ok(Self(name))
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        parse(name, NODE_NAME_MAX).map(Self)
    }
}

impl FromStr for PodName {
    type Err = NameError;

    /// Pods are named by their backend: any text without white space is one.
    fn from_str(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.chars().any(char::is_whitespace) {
            return Err(NameError::Characters(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl NodeName {
    /// The name of the node's Kubernetes objects: as buildx does it, `_` becomes `-`, and so does `.`, which pods may not have.
    pub fn object_name(&self) -> String {
        self.0.replace(['_', '.'], "-").trim_end_matches('-').to_owned()
    }

    /// The name of node number `n` of a builder that was not given one.
    ///
    /// # Errors
    /// When the builder's name leaves no room for the number.
    pub fn numbered(builder: &BuilderName, n: usize) -> Result<Self, NameError> {
        format!("{builder}{n}").parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_letter_then_letters_digits_dot_underscore_dash() {
        for (given, wanted) in [
            ("kube", Ok("kube")),
            ("Kube", Ok("kube")),
            ("k_u.b-e9", Ok("k_u.b-e9")),
            ("", Err(NameError::Empty)),
            ("9kube", Err(NameError::Characters("9kube".into()))),
            ("-kube", Err(NameError::Characters("-kube".into()))),
            ("ku be", Err(NameError::Characters("ku be".into()))),
            ("küche", Err(NameError::Characters("küche".into()))),
            ("../kube", Err(NameError::Characters("../kube".into()))),
            ("default", Err(NameError::Reserved("default".into()))),
        ] {
            assert_eq!(given.parse::<BuilderName>().map(String::from), wanted.map(str::to_owned), "{given}");
        }
    }

    #[test]
    fn a_name_leaves_room_for_the_names_of_pods() {
        assert!("a".repeat(NODE_NAME_MAX).parse::<NodeName>().is_ok());
        let long = "a".repeat(NODE_NAME_MAX + 1);
        assert!(matches!(long.parse::<NodeName>(), Err(NameError::TooLong { length: 47, max: 46, .. })));
    }

    #[test]
    fn objects_are_named_in_characters_that_kubernetes_takes() {
        for (node, object) in [("kube0", "kube0"), ("builder_a.b", "builder-a-b"), ("kube-", "kube")] {
            assert_eq!(node.parse::<NodeName>().unwrap().object_name(), object);
        }
    }
}
