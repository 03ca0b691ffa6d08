//! Why an object was not put into the cluster or taken out of it, and what the user can do about that.

use super::super::errors::RequestError;
use super::GivenObject;
use crate::backend::{BoxError, NoNamespace};

/// Why nothing came of one object.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("failed to reach {server}")]
    Unreachable {
        server: String,
        #[source]
        source: BoxError,
    },
    #[error("not asked for, because {server} did not answer before")]
    NotAsked { server: String },
    #[error("the cluster has no kind {kind} in {api_version}")]
    UnknownKind { kind: String, api_version: String },
    #[error("not allowed to {verb} {resource} in {place}")]
    Forbidden {
        verb: &'static str,
        resource: String,
        place: String,
        #[source]
        source: BoxError,
    },
    #[error(transparent)]
    NoNamespace(#[from] NoNamespace),
    /// Somebody else has set fields that are asked for.
    #[error("some of its fields are somebody else's")]
    Conflict(#[source] BoxError),
    /// What is there cannot become what is asked for.
    #[error("it cannot be changed so")]
    Fixed {
        object: String,
        #[source]
        source: BoxError,
    },
    #[error("failed to {verb} it")]
    Refused {
        verb: &'static str,
        #[source]
        source: BoxError,
    },
}

impl PutError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden { .. } => Some("docs/rbac.md lists the rights that each command needs".to_owned()),
            Self::NoNamespace(NoNamespace { namespace }) => {
                Some(format!("create it by `kubectl create namespace {namespace}`, or choose another by --namespace"))
            }
            Self::Conflict(_) => {
                Some("--force takes these fields over; leave them out to keep what the other has set".to_owned())
            }
            Self::Fixed { object, .. } => Some(format!("delete {object} first; builds that run there end with it")),
            Self::Unreachable { .. } | Self::NotAsked { .. } | Self::UnknownKind { .. } | Self::Refused { .. } => None,
        }
    }
}

/// Kinds of which most fields are fixed once an object is there.
const FIXED: [&str; 3] = ["Job", "Pod", "StatefulSet"];

pub(super) fn of_request(
    verb: &'static str,
    object: &GivenObject,
    resource: &str,
    namespace: &str,
    server: &str,
    error: RequestError,
) -> PutError {
    let unreachable = |source: BoxError| PutError::Unreachable { server: server.to_owned(), source };
    match error {
        error if error.is_forbidden() => {
            let place = match namespace {
                "" => "the cluster".to_owned(),
                namespace => format!("namespace {namespace}"),
            };
            PutError::Forbidden { verb, resource: resource.to_owned(), place, source: error.into() }
        }
        error if error.is_missing_namespace(namespace) => NoNamespace { namespace: namespace.to_owned() }.into(),
        error if verb == "patch" && error.is_conflict() => PutError::Conflict(error.into()),
        // The words for a change of what is fixed; other fields that are not valid are told as they are.
        RequestError::Refused { code: 422, message, reason }
            if FIXED.contains(&object.kind().kind.as_str())
                && ["may not change", "immutable", "are forbidden"].iter().any(|words| message.contains(words)) =>
        {
            // The API server goes on with a difference of its own types, field by field.
            let message = message.lines().next().unwrap_or_default().to_owned();
            let source = RequestError::Refused { code: 422, message, reason };
            PutError::Fixed { object: object.called(), source: source.into() }
        }
        error @ RequestError::Refused { .. } => PutError::Refused { verb, source: error.into() },
        RequestError::Lost(source) => unreachable(source),
        error @ (RequestError::TimedOut(_) | RequestError::Connect(_)) => unreachable(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    fn told(kind: &str, verb: &'static str, code: u16, message: &str) -> (String, Option<String>) {
        let text = format!(r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"a"}}}}"#);
        let object = GivenObject::try_new(&text).unwrap();
        let error = RequestError::Refused { code, reason: String::new(), message: message.to_owned() };
        let error = of_request(verb, &object, "pods", "builds", "context `c`", error);
        (report::chain(&error), error.hint())
    }

    #[test]
    fn each_refusal_says_what_can_be_done() {
        for (kind, verb, code, message, wanted, hint) in [
            ("Pod", "get", 403, "forbidden", "not allowed to get pods in namespace builds: forbidden", "rbac.md"),
            (
                "Pod",
                "patch",
                404,
                "namespaces \"builds\" not found",
                "namespace builds does not exist",
                "kubectl create namespace builds",
            ),
            ("Pod", "patch", 409, "Apply failed with 1 conflict", "somebody else's: Apply failed", "--force"),
            (
                "Pod",
                "patch",
                422,
                "Pod is invalid: spec: Forbidden: pod updates may not change fields other than\n@@ -1 +1 @@",
                "it cannot be changed so",
                "delete pod a first",
            ),
            ("Job", "patch", 422, "field is immutable", "it cannot be changed so", "delete job a first"),
        ] {
            let (error, hinted) = told(kind, verb, code, message);
            assert!(error.contains(wanted) && !error.contains("@@"), "{error}");
            assert!(hinted.as_ref().is_some_and(|text| text.contains(hint)), "{hinted:?}");
        }
        for (kind, message) in [("Pod", "spec.containers: Required value"), ("Service", "field is immutable")] {
            let (error, hint) = told(kind, "patch", 422, message);
            assert_eq!((error, hint), (format!("failed to patch it: {message}"), None));
        }
    }
}
