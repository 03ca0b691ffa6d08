//! Objects as files that people read: the important keys first, and a word where a reader asks why.

use serde_json::Value;
use serde_yaml_ng::{Mapping, Value as Yaml};

/// What comes first of a mapping's keys; the others follow by name.
const FIRST: [&str; 8] = ["apiVersion", "kind", "metadata", "name", "namespace", "image", "command", "args"];

/// The end of the path to a line, its value where that matters, and why it is there.
const WHY: [(&str, Option<&str>, &str); 17] = [
    ("securityContext.seccompProfile", None, "So does its default seccomp profile."),
    (
        "securityContext.appArmorProfile",
        None,
        "The runtime's default profile forbids rootlesskit its user namespaces and the mounts in them. Needs Kubernetes 1.30.",
    ),
    (
        "args",
        Some("--oci-worker-no-process-sandbox"),
        "A PID namespace for each RUN step would need an unmasked /proc: steps see buildkitd's processes.",
    ),
    (
        "args",
        Some("--debugaddr"),
        "Metrics, and with them Go's profiles and the cache's records, for whoever reaches the port.",
    ),
    (
        "spec.hostUsers",
        None,
        "Root in the pod is nobody on the node. Needs Kubernetes 1.33 and a runtime and file systems with idmapped mounts.",
    ),
    ("securityContext.privileged", None, "buildkitd mounts file systems and runs containers."),
    ("lifecycle.preStop", None, "A pod that is told to go first waits for the builds that run in it."),
    (
        "containers.readinessProbe",
        None,
        "There is no liveness probe: a builder answers late when it is busy, and would be killed for it.",
    ),
    (
        "spec.automountServiceAccountToken",
        Some("false"),
        "RUN steps are other people's code: they get no token of the cluster.",
    ),
    ("initContainers.command", Some("chown"), "A fresh disk belongs to root."),
    ("volumes.emptyDir", None, "The cache goes with the pod."),
    ("secret.defaultMode", Some("292"), "0444: user 1000 has to read them."),
    ("secret.defaultMode", Some("256"), "0400"),
    ("volumes.name", Some("certs"), "With ca.pem, cert.pem and key.pem; `buildfleet certs create` makes one."),
    ("spec.podManagementPolicy", None, "Pods need nothing of each other."),
    ("spec.clusterIP", Some("None"), "Headless: it gives each pod a name."),
    (
        "spec.policyTypes",
        None,
        "What comes through the API server (exec, port-forward) and probes come from the node, and are not concerned.",
    ),
];

/// Documents that `kubectl apply` takes.
pub fn yaml(objects: &[Value]) -> String {
    objects.iter().map(document).collect::<Vec<_>>().join("---\n")
}

/// A file for each object, and the one that names them all, by their names.
pub fn kustomization(objects: &[Value]) -> Vec<(String, String)> {
    let name = |object: &Value| format!("{}.yaml", object["kind"].as_str().unwrap_or_default().to_ascii_lowercase());
    let mut index = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n".to_owned();
    objects.iter().for_each(|object| index.push_str(&format!("- {}\n", name(object))));
    let files = objects.iter().map(|object| (name(object), document(object)));
    std::iter::once(("kustomization.yaml".to_owned(), index)).chain(files).collect()
}

fn document(object: &Value) -> String {
    // JSON values have no keys or numbers that YAML lacks.
    explained(&serde_yaml_ng::to_string(&ordered(object)).unwrap_or_default())
}

fn ordered(value: &Value) -> Yaml {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
            fields.sort_by_key(|(key, _)| (rank(key), key.as_str()));
            let fields = fields.into_iter().map(|(key, value)| (Yaml::from(key.as_str()), ordered(value)));
            Yaml::Mapping(fields.collect::<Mapping>())
        }
        Value::Array(items) => Yaml::Sequence(items.iter().map(ordered).collect()),
        plain => serde_yaml_ng::to_value(plain).unwrap_or_default(),
    }
}

/// The text with a comment above each line that has one.
fn explained(text: &str) -> String {
    let mut out = String::new();
    let mut path: Vec<(usize, &str)> = Vec::new();
    // Lines that are deeper than this are a text of somebody's, whatever they look like.
    let mut verbatim: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if verbatim.is_some_and(|depth| line.trim().is_empty() || indent > depth) {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        let mut rest = line.trim_start();
        let mut column = indent;
        while let Some(item) = rest.strip_prefix("- ") {
            (rest, column) = (item, column + 2);
        }
        path.retain(|(depth, _)| *depth < column);
        let (key, value) = match rest.split_once(':').filter(|(key, after)| is_key(key, after)) {
            Some((key, value)) => (Some(key), value.trim()),
            None => (None, rest),
        };
        path.extend(key.map(|key| (column, key)));
        verbatim = value.starts_with(['|', '>']).then_some(indent);
        if let Some(why) = why(&path, key.is_some(), value.trim_matches(['\'', '"'])) {
            out.push_str(&format!("{:indent$}# {why}\n", ""));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// A key of an object of Kubernetes, or of a label; arguments and addresses have colons, too.
fn is_key(key: &str, after: &str) -> bool {
    (after.is_empty() || after.starts_with(' ')) && !key.starts_with(['-', '\'', '"']) && !key.contains(' ')
}

/// What a list holds has a comment only where its value is known.
fn why(path: &[(usize, &str)], is_key: bool, value: &str) -> Option<&'static str> {
    let keys: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
    let (_, _, why) = WHY.iter().find(|(end, wanted, _)| {
        let end: Vec<&str> = end.split('.').collect();
        keys.ends_with(&end) && wanted.map_or(is_key, |wanted| wanted == value)
    })?;
    Some(why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn important_keys_come_first() {
        let object = json!({"spec": {"b": 1, "args": ["x"], "name": "n"}, "kind": "K", "apiVersion": "v1"});
        assert_eq!(document(&object), "apiVersion: v1\nkind: K\nspec:\n  name: n\n  args:\n  - x\n  b: 1\n");
    }

    #[test]
    fn a_comment_stands_above_its_line_and_nowhere_in_a_text_of_somebody_s() {
        let text = "secret:\n  defaultMode: 256\n";
        let object = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "N", "value": text}],
            "args": ["--addr", "--oci-worker-no-process-sandbox"]}]}, "volumes": [{"secret": {"defaultMode": 256}}]});
        let text = document(&object);
        assert_eq!(text.matches("# 0400\n").count(), 1, "{text}");
        assert!(text.contains("\n    - --addr\n    # A PID namespace"), "{text}");
        assert_eq!(serde_yaml_ng::from_str::<Value>(&text).unwrap(), object);
    }

    #[test]
    fn a_kustomization_names_its_files() {
        let files = kustomization(&[json!({"kind": "Service"}), json!({"kind": "StatefulSet"})]);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["kustomization.yaml", "service.yaml", "statefulset.yaml"]);
        assert!(files[0].1.ends_with("resources:\n- service.yaml\n- statefulset.yaml\n"), "{}", files[0].1);
    }
}
