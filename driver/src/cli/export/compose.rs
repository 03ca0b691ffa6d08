//! What docker buildx's kubernetes driver has to know of a builder, or why it cannot have it: pure.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use buildfleet_proto::fleet::{Builder, Node};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::cli::import::read::REMOTE;
use crate::cli::import::replace::{instance, platform};

pub(super) const DRIVER: &str = "kubernetes";

/// The keys that docker buildx v0.36 knows; the families end in a dot.
const KNOWN: [&str; 24] = [
    "annotations",
    "buildkit-root-volume-memory",
    "default-load",
    "env.",
    "image",
    "labels",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "loadbalance",
    "namespace",
    "nodeselector",
    "persistent-volume-claim.requests.storage",
    "qemu.image",
    "qemu.install",
    "replicas",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "rootless",
    "schedulername",
    "serviceaccount",
    "timeout",
    "tolerations",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Composed {
    pub(super) text: Vec<u8>,
    pub(super) warnings: Vec<String>,
}

/// `before` is what buildx knew when the builder was imported; `found` are the kubeconfig files of the environment.
pub(super) fn compose(builder: &Builder, before: Option<&[u8]>, found: &[PathBuf]) -> Result<Composed, Vec<String>> {
    let before: Value = before.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
    let known = before["Nodes"].as_array().cloned().unwrap_or_default();
    // buildx has one driver for all nodes of a builder.
    let driver = if builder.driver == REMOTE { REMOTE } else { DRIVER };
    let (mut nodes, mut warnings, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for node in &builder.nodes {
        if let Some(known) = known.iter().find(|known| known["Name"] == node.name.as_str()) {
            nodes.push(known.clone());
            continue;
        }
        let composed = match driver {
            REMOTE => of_remote(node, &mut warnings),
            _ => of_node(&builder.name, node, found, &mut warnings),
        };
        match composed {
            Ok(node) => nodes.push(node),
            Err(reason) => reasons.push(format!("node {}: {reason}", node.name)),
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    Ok(Composed { text: instance(&builder.name, driver, &nodes).to_string().into_bytes(), warnings })
}

fn of_node(builder: &str, node: &Node, found: &[PathBuf], warnings: &mut Vec<String>) -> Result<Value, String> {
    let name = &node.name;
    if node.driver != DRIVER {
        return Err(format!("docker buildx has no driver that finds the pods of the {} driver again", node.driver));
    }
    if let Some(to) = node.endpoint.split_once("?attach=").map(|(_, rest)| rest.split('&').next().unwrap_or(rest))
        && to.split_once('/').map(|(_, workload)| workload) != Some(&name.replace('_', "-"))
    {
        return Err(format!("its pods are those of {to}, and docker buildx finds pods by the name of the node alone"));
    }
    let kubeconfig = node.kubeconfig.clone().unwrap_or_default();
    let file = match kubeconfig.paths.as_slice() {
        paths if paths.iter().map(Path::new).eq(found.iter().map(PathBuf::as_path)) && paths.len() > 1 => "",
        [] => "",
        [path] => path,
        several => {
            return Err(format!(
                "its cluster is in several kubeconfig files, and buildx takes one: {}",
                several.join(", ")
            ));
        }
    };
    if !kubeconfig.context.is_empty() {
        let (context, file) = (&kubeconfig.context, kubeconfig.paths.join(", "));
        warnings.push(format!(
            "node {name}: docker buildx goes to the current context of {file}, which has to be {context}"
        ));
    }
    let (given, left): (Vec<_>, Vec<_>) = node.driver_opts.iter().partition(|(key, value)| is_known(key, value));
    warnings.extend(unknown(name, &left));
    let options: Map<String, Value> = given.into_iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let files = node.buildkitd_config.as_ref().map(|config| {
        if !config.files.is_empty() {
            warnings.push(format!(
                "node {name}: the certificates and keys of its buildkitd.toml are not given out: pods that docker buildx makes anew lack them"
            ));
        }
        json!({"buildkitd.toml": STANDARD.encode(&config.toml)})
    });
    Ok(json!({
        "Name": name,
        "Endpoint": format!("kubernetes:///{builder}?deployment={name}&kubeconfig={}", encoded(file)),
        "Platforms": node.platforms.iter().map(|text| platform(text)).collect::<Vec<_>>(),
        "DriverOpts": options,
        "Flags": node.buildkitd_flags,
        "Files": files,
    }))
}

/// The addresses that buildx's remote driver takes, and its options.
const ADDRESSES: [&str; 5] = ["docker-container", "kube-pod", "ssh", "tcp", "unix"];
const OF_REMOTE: [&str; 5] = ["cacert", "cert", "default-load", "key", "servername"];

fn of_remote(node: &Node, warnings: &mut Vec<String>) -> Result<Value, String> {
    let (name, address) = (&node.name, &node.endpoint);
    let scheme = address.split("://").next().unwrap_or_default();
    if !ADDRESSES.contains(&scheme) {
        return Err(format!("docker buildx knows no addresses {scheme}://, and this is one: {address}"));
    }
    if scheme == "kube-pod" {
        warnings.push(format!(
            "node {name}: docker buildx looks for the context of {address} in $KUBECONFIG or ~/.kube/config"
        ));
    }
    let (given, left): (Vec<_>, Vec<_>) =
        node.driver_opts.iter().partition(|(key, _)| OF_REMOTE.contains(&key.as_str()));
    warnings.extend(unknown(name, &left));
    Ok(json!({
        "Name": name,
        "Endpoint": address,
        "Platforms": node.platforms.iter().map(|text| platform(text)).collect::<Vec<_>>(),
        "DriverOpts": given.into_iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>(),
        "Flags": null,
        "Files": null,
    }))
}

/// A warning of options that only exist here.
fn unknown(node: &str, left: &[(&String, &String)]) -> Option<String> {
    let mut keys: Vec<&str> = left.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    (!keys.is_empty())
        .then(|| format!("node {node}: docker buildx does not know and will not have {}", keys.join(", ")))
}

fn is_known(key: &str, value: &str) -> bool {
    let is_it = |known: &&str| key == *known || known.ends_with('.') && key.starts_with(*known);
    match key {
        "loadbalance" => ["sticky", "random"].contains(&value),
        _ => KNOWN.iter().any(is_it),
    }
}

/// A value of a query.
fn encoded(text: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::fleet::{BuildkitdConfig, Kubeconfig};

    use super::*;

    fn node(name: &str, opts: &[(&str, &str)]) -> Node {
        Node {
            name: name.to_owned(),
            driver: DRIVER.to_owned(),
            endpoint: format!("kubernetes:///kube?deployment={name}&context=prod"),
            driver_opts: opts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            platforms: vec!["linux/arm64".to_owned()],
            buildkitd_flags: vec!["--debug".to_owned()],
            kubeconfig: Some(Kubeconfig { paths: vec!["/home/u/k c".to_owned()], context: "prod".to_owned() }),
            ..Node::default()
        }
    }

    fn builder(nodes: Vec<Node>) -> Builder {
        Builder { name: "kube".to_owned(), driver: DRIVER.to_owned(), nodes, ..Builder::default() }
    }

    #[test]
    fn what_buildx_knows_is_given_and_what_it_does_not_is_named() {
        let opts = [
            ("namespace", "ci"),
            ("env.A", "b"),
            ("transport", "exec"),
            ("loadbalance", "least-loaded"),
            ("ttl", "24h"),
        ];
        let composed = compose(&builder(vec![node("kube0", &opts)]), None, &[]).unwrap();
        let text: Value = serde_json::from_slice(&composed.text).unwrap();
        let node = &text["Nodes"][0];
        assert_eq!((&text["Driver"], &text["Name"]), (&json!("kubernetes"), &json!("kube")));
        assert_eq!(node["Endpoint"], "kubernetes:///kube?deployment=kube0&kubeconfig=%2Fhome%2Fu%2Fk%20c");
        assert_eq!(node["DriverOpts"], json!({"namespace": "ci", "env.A": "b"}));
        assert_eq!(node["Platforms"], json!([{"architecture": "arm64", "os": "linux"}]));
        assert_eq!(node["Flags"], json!(["--debug"]));
        assert!(composed.warnings[0].contains("which has to be prod"), "{:?}", composed.warnings);
        assert!(composed.warnings[1].ends_with("will not have loadbalance, transport, ttl"), "{:?}", composed.warnings);
    }

    #[test]
    fn remote_nodes_are_given_by_their_addresses_as_far_as_buildx_knows_these() {
        let remote = |endpoint: &str| {
            let opts = [("cacert", "/c"), ("timeout", "9s")];
            let node = Node { endpoint: endpoint.to_owned(), driver: REMOTE.to_owned(), ..node("far0", &opts) };
            compose(&Builder { driver: REMOTE.to_owned(), ..builder(vec![node]) }, None, &[])
        };
        let composed = remote("tcp://h:1").unwrap();
        let text: Value = serde_json::from_slice(&composed.text).unwrap();
        let node = &text["Nodes"][0];
        assert_eq!((&text["Driver"], &node["Endpoint"]), (&json!("remote"), &json!("tcp://h:1")));
        assert_eq!((&node["DriverOpts"], &node["Flags"]), (&json!({"cacert": "/c"}), &json!(null)));
        assert!(composed.warnings[0].ends_with("will not have timeout"), "{:?}", composed.warnings);
        assert!(
            remote("kube-pod://b?context=prod").unwrap().warnings[0]
                .contains("the context of kube-pod://b?context=prod")
        );
        let reasons = remote("kube-service://b:1234").unwrap_err();
        assert!(reasons[0].contains("node far0: docker buildx knows no addresses kube-service://"), "{reasons:?}");
    }

    #[test]
    fn what_was_imported_becomes_what_it_was() {
        let before = json!({"Name": "kube", "Driver": "kubernetes", "Nodes": [{"Name": "kube0", "Endpoint": "kubernetes:///kube?x", "Files": {"a": "b"}}, {"Name": "gone"}]});
        let nodes =
            vec![Node { endpoint: "kubernetes:///kube?attach=deployment/kube0".to_owned(), ..node("kube0", &[]) }];
        let composed = compose(&builder(nodes), Some(before.to_string().as_bytes()), &[]).unwrap();
        let text: Value = serde_json::from_slice(&composed.text).unwrap();
        assert_eq!(text["Nodes"], json!([before["Nodes"][0]]));
        assert_eq!(composed.warnings, [""; 0]);
    }

    #[test]
    fn what_buildx_could_not_find_again_is_refused_node_by_node() {
        let local = Node { driver: "local".to_owned(), ..node("lap", &[]) };
        let attached = Node { endpoint: "kubernetes:///kube?attach=statefulset/team".to_owned(), ..node("kube1", &[]) };
        let paths = vec!["/a".to_owned(), "/b".to_owned()];
        let several = Node { kubeconfig: Some(Kubeconfig { paths, context: "prod".to_owned() }), ..node("kube2", &[]) };
        let reasons = compose(&builder(vec![local, attached, several.clone()]), None, &[]).unwrap_err();
        assert!(reasons[0].contains("node lap: docker buildx has no driver"), "{reasons:?}");
        assert!(reasons[1].contains("node kube1: its pods are those of statefulset/team"), "{reasons:?}");
        assert!(reasons[2].contains("several kubeconfig files, and buildx takes one: /a, /b"), "{reasons:?}");
        // Those that buildx finds by itself need not be named.
        let composed = compose(&builder(vec![several]), None, &["/a".into(), "/b".into()]).unwrap();
        assert!(String::from_utf8(composed.text).unwrap().contains("&kubeconfig=\""));
    }

    #[test]
    fn keys_of_a_configuration_are_not_given_out() {
        let config = BuildkitdConfig {
            toml: "debug = true".to_owned(),
            files: [("certs/r/key.pem".to_owned(), String::new())].into(),
        };
        let configured = Node { buildkitd_config: Some(config), ..node("kube0", &[]) };
        let composed = compose(&builder(vec![configured]), None, &[]).unwrap();
        let text: Value = serde_json::from_slice(&composed.text).unwrap();
        assert_eq!(text["Nodes"][0]["Files"], json!({"buildkitd.toml": STANDARD.encode("debug = true")}));
        assert!(composed.warnings[1].contains("not given out"), "{:?}", composed.warnings);
    }

    #[test]
    fn every_key_that_is_given_is_one_of_ours_too() {
        for known in KNOWN {
            let is_ours = crate::options::keys(crate::builder::Driver::Kubernetes)
                .any(|key| key.name == known || known.ends_with('.') && key.name.starts_with(known));
            assert!(is_ours, "{known}");
        }
    }
}
