//! The Secret with one side's certificates of a `buildkitd` that is run by hand, as `kubectl create secret generic` would make it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// Files by their names, in a Secret of that name; without a namespace, it goes where it is applied.
pub fn files_secret(name: &str, namespace: Option<&str>, files: &[(&str, &str)]) -> Value {
    let data = files.iter().map(|(file, text)| ((*file).to_owned(), ByteString(text.as_bytes().to_vec())));
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: namespace.map(str::to_owned),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data.collect::<BTreeMap<_, _>>()),
        ..Secret::default()
    };
    // Plain data, which JSON always has a form for.
    serde_json::to_value(secret).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_kubectl_would_make() {
        let files = [("ca.pem", "a"), ("cert.pem", "b")];
        for (namespace, metadata) in [
            (None, serde_json::json!({"name": "certs"})),
            (Some("builds"), serde_json::json!({"name": "certs", "namespace": "builds"})),
        ] {
            let wanted = serde_json::json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": metadata, "data": {"ca.pem": "YQ==", "cert.pem": "Yg=="},
            });
            assert_eq!(files_secret("certs", namespace, &files), wanted);
        }
    }
}
