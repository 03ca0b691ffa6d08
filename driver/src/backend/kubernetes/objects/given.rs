//! An object as somebody wrote it, with what every object has to have. Pure.

use kube::api::GroupVersionKind;
use serde_json::Value;

/// Why a text is no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoObject {
    #[error("it is no JSON: {0}")]
    Syntax(String),
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its apiVersion `{0}` is neither VERSION nor GROUP/VERSION")]
    Version(String),
}

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenObject {
    kind: GroupVersionKind,
    json: Value,
}

impl GivenObject {
    /// Reads it from JSON.
    ///
    /// # Errors
    /// When it has no apiVersion, kind or name.
    pub fn try_new(text: &str) -> Result<Self, NoObject> {
        let json: Value = serde_json::from_str(text).map_err(|error| NoObject::Syntax(error.to_string()))?;
        let field = |path: &str, called| {
            let found = json.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
            found.ok_or(NoObject::Missing(called))
        };
        let (api_version, kind) = (field("/apiVersion", "apiVersion")?, field("/kind", "kind")?);
        field("/metadata/name", "metadata.name")?;
        let (group, version) = match api_version.split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", api_version),
        };
        if version.is_empty() || version.contains('/') || (api_version.contains('/') && group.is_empty()) {
            return Err(NoObject::Version(api_version.to_owned()));
        }
        Ok(Self { kind: GroupVersionKind::gvk(group, version, kind), json })
    }

    pub(super) fn kind(&self) -> &GroupVersionKind {
        &self.kind
    }

    pub(super) fn json(&self) -> &Value {
        &self.json
    }

    pub(super) fn name(&self) -> &str {
        self.json["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.json["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty())
    }

    /// As errors and lists name it: `deployment buildkitd`.
    pub(super) fn called(&self) -> String {
        format!("{} {}", self.kind.kind.to_ascii_lowercase(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_a_version_a_kind_and_a_name() {
        let text =
            |api_version: &str| format!(r#"{{"apiVersion":"{api_version}","kind":"Pod","metadata":{{"name":"a"}}}}"#);
        for (api_version, group, version) in [("v1", "", "v1"), ("apps/v1", "apps", "v1")] {
            let object = GivenObject::try_new(&text(api_version)).unwrap();
            assert_eq!((object.kind.group.as_str(), object.kind.version.as_str()), (group, version));
            assert_eq!((object.called().as_str(), object.namespace()), ("pod a", None));
        }
        for api_version in ["/v1", "apps/", "a/b/c", "/"] {
            assert_eq!(GivenObject::try_new(&text(api_version)), Err(NoObject::Version(api_version.into())));
        }
        for (text, missing) in [
            ("{}", "apiVersion"),
            ("[]", "apiVersion"),
            (r#"{"apiVersion":"v1"}"#, "kind"),
            (r#"{"apiVersion":"v1","kind":""}"#, "kind"),
            (r#"{"apiVersion":"v1","kind":"Pod"}"#, "metadata.name"),
            (r#"{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"a-"}}"#, "metadata.name"),
        ] {
            assert_eq!(GivenObject::try_new(text), Err(NoObject::Missing(missing)), "{text}");
        }
        assert!(matches!(GivenObject::try_new("a: b"), Err(NoObject::Syntax(_))));
    }
}
