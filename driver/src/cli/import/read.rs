//! What buildx knows of a builder into requests for the same one here, or why that cannot be: pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use buildfleet_proto::fleet::{BuildkitdConfig, CreateRequest, Kubeconfig};
use buildfleet_shim::store::{Instance, Node};
use percent_encoding::percent_decode_str;

use crate::options::csv_record;

pub(super) const DRIVER: &str = "kubernetes";

/// Whose nodes are addresses.
pub(in crate::cli) const REMOTE: &str = "remote";

const TOML: &str = "buildkitd.toml";

/// Where pods of buildx have the certificates that the file names.
const IN_PODS: &str = "/etc/buildkit/certs/";

/// What the environment and the user say of the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) kubeconfig: Vec<PathBuf>,
    pub(super) context: String,
    pub(super) in_cluster: bool,
}

/// A request for each node, the first of which makes the builder.
pub(super) fn requests(instance: &Instance, given: &Given) -> Result<Vec<CreateRequest>, Vec<String>> {
    let Instance { name, driver, nodes } = instance;
    let request = match driver.as_str() {
        DRIVER => request,
        REMOTE => remote,
        driver => {
            let problem =
                format!("its driver is {driver}: builders of the kubernetes and remote drivers can be imported");
            return Err(vec![problem]);
        }
    };
    let mut reasons = Vec::new();
    let mut requests = Vec::new();
    for node in nodes {
        match request(name, node, given) {
            Ok(request) => requests.push(CreateRequest { append: !requests.is_empty(), ..request }),
            Err(reason) => reasons.push(format!("node {}: {reason}", node.name)),
        }
    }
    if nodes.is_empty() {
        reasons.push("it has no nodes".to_owned());
    }
    if reasons.is_empty() { Ok(requests) } else { Err(reasons) }
}

fn request(builder: &str, node: &Node, given: &Given) -> Result<CreateRequest, String> {
    let paths = match kubeconfig_of(&node.endpoint)? {
        Some(path) => vec![path],
        None => given.kubeconfig.clone(),
    };
    if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
        return Err(format!("its kubeconfig `{}` is relative to a directory that nobody remembers", path.display()));
    }
    if paths.is_empty() && !given.in_cluster {
        return Err("it says no kubeconfig, and neither do --kubeconfig, $KUBECONFIG and ~/.kube/config".to_owned());
    }
    Ok(CreateRequest {
        builder: builder.to_owned(),
        node: node.name.clone(),
        driver: DRIVER.to_owned(),
        driver_opt: options(node),
        platform: node.platforms.clone(),
        buildkitd_flags: node.flags.iter().map(|flag| word(flag)).collect::<Vec<_>>().join(" "),
        kubeconfig: Some(kubeconfig(&paths, given)?),
        buildkitd_config: config(node)?,
        adopt: true,
        ..CreateRequest::default()
    })
}

/// A `buildkitd` that somebody else runs.
fn remote(builder: &str, node: &Node, given: &Given) -> Result<CreateRequest, String> {
    Ok(CreateRequest {
        builder: builder.to_owned(),
        node: node.name.clone(),
        driver: REMOTE.to_owned(),
        driver_opt: options(node),
        platform: node.platforms.clone(),
        endpoint: node.endpoint.clone(),
        kubeconfig: Some(kubeconfig(&given.kubeconfig, given)?),
        ..CreateRequest::default()
    })
}

fn options(node: &Node) -> Vec<String> {
    node.driver_opts.iter().map(|(key, value)| csv_record(&[format!("{key}={value}")])).collect()
}

fn kubeconfig(paths: &[PathBuf], given: &Given) -> Result<Kubeconfig, String> {
    let text =
        |path: &PathBuf| path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()));
    Ok(Kubeconfig { paths: paths.iter().map(text).collect::<Result<_, _>>()?, context: given.context.clone() })
}

/// The file that the endpoint names, if it names one.
fn kubeconfig_of(endpoint: &str) -> Result<Option<PathBuf>, String> {
    let Some(rest) = endpoint.strip_prefix("kubernetes://") else {
        return Err(format!(
            "its endpoint `{endpoint}` is a context of docker, of which the cluster is not known here; create it by `buildfleet create`"
        ));
    };
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let value = query.split('&').find_map(|pair| pair.strip_prefix("kubeconfig="));
    let value = value.map(decoded).transpose()?.filter(|value| !value.is_empty());
    Ok(value.map(|value| Path::new(&value).to_owned()))
}

/// A value of a query.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` in its endpoint cannot be read");
    let is_code = |rest: &str| rest.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_code) {
        return Err(wrong());
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| wrong())
}

/// A word of a shell.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn config(node: &Node) -> Result<Option<BuildkitdConfig>, String> {
    let text = |name: &str, encoded: &String| {
        let bytes = STANDARD.decode(encoded).map_err(|error| format!("its file {name}: {error}"))?;
        String::from_utf8(bytes).map_err(|_| format!("its file {name} is not UTF-8"))
    };
    let Some(toml) = node.files.get(TOML) else { return Ok(None) };
    // Here they are relative to the file, wherever that is.
    let toml = text(TOML, toml)?.replace(IN_PODS, "certs/");
    let named = node.files.iter().filter(|(name, _)| *name != TOML);
    let files: Result<HashMap<String, String>, String> =
        named.map(|(name, encoded)| Ok((name.clone(), text(name, encoded)?))).collect();
    Ok(Some(BuildkitdConfig { toml, files: files? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(endpoint: &str) -> Node {
        Node { name: "kube0".to_owned(), endpoint: endpoint.to_owned(), ..Node::default() }
    }

    fn instance(driver: &str, nodes: Vec<Node>) -> Instance {
        Instance { name: "kube".to_owned(), driver: driver.to_owned(), nodes }
    }

    fn given() -> Given {
        Given { kubeconfig: vec!["/home/u/.kube/config".into()], ..Given::default() }
    }

    #[test]
    fn all_that_buildx_knows_is_asked_for() {
        let toml = STANDARD.encode("[registry.\"r.example\"]\n  ca = [\"/etc/buildkit/certs/r.example/ca.pem\"]\n");
        let first = Node {
            platforms: vec!["linux/amd64".to_owned(), "linux/386".to_owned()],
            driver_opts: [("nodeselector", "a=b,c=d"), ("namespace", "ci"), ("annotations", "x=\"y\"")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            flags: vec!["--debug".to_owned(), "--x=it's".to_owned()],
            files: [("buildkitd.toml".to_owned(), toml), ("certs/r.example/ca.pem".to_owned(), STANDARD.encode("PEM"))]
                .into(),
            ..node("kubernetes:///kube?deployment=&kubeconfig=%2Ftmp%2Fa+b%2Fconfig")
        };
        let second = Node { name: "kube1".to_owned(), ..node("kubernetes:///kube?deployment=x&kubeconfig=") };
        let requests = requests(&instance("kubernetes", vec![first, second]), &given()).unwrap();
        let [first, second] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((first.append, first.adopt, second.append, second.node.as_str()), (false, true, true, "kube1"));
        assert_eq!(first.driver_opt, ["\"annotations=x=\"\"y\"\"\"", "\"namespace=ci\"", "\"nodeselector=a=b,c=d\""]);
        assert_eq!(first.buildkitd_flags, "'--debug' '--x=it'\\''s'");
        assert_eq!(first.platform, ["linux/amd64", "linux/386"]);
        assert_eq!(first.kubeconfig.as_ref().unwrap().paths, ["/tmp/a b/config"]);
        assert_eq!(second.kubeconfig.as_ref().unwrap().paths, ["/home/u/.kube/config"]);
        let config = first.buildkitd_config.clone().unwrap();
        assert!(config.toml.contains("\"certs/r.example/ca.pem\""), "{}", config.toml);
        assert_eq!(config.files["certs/r.example/ca.pem"], "PEM");
    }

    #[test]
    fn a_remote_node_is_asked_for_by_its_address() {
        let opts = [("cacert", "/c"), ("servername", "a,b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let node =
            Node { driver_opts: opts.into(), platforms: vec!["linux/amd64".to_owned()], ..node("kube-pod://b-0") };
        let requests = requests(&instance("remote", vec![node]), &given()).unwrap();
        let [request] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!(
            (request.driver.as_str(), request.endpoint.as_str(), request.adopt),
            ("remote", "kube-pod://b-0", false)
        );
        assert_eq!(request.driver_opt, ["\"cacert=/c\"", "\"servername=a,b\""]);
        assert_eq!(request.platform, ["linux/amd64"]);
        assert_eq!(request.kubeconfig.as_ref().unwrap().paths, ["/home/u/.kube/config"]);
    }

    #[test]
    fn why_one_cannot_be_imported_is_said_of_each_node() {
        let broken = Node {
            name: "kube1".to_owned(),
            files: [("buildkitd.toml".to_owned(), "?".to_owned())].into(),
            ..node("kubernetes:///kube")
        };
        let bare = Given::default();
        for (instance, given, wanted) in [
            (instance("docker-container", vec![node("x")]), given(), vec!["its driver is docker-container"]),
            (instance("kubernetes", Vec::new()), given(), vec!["it has no nodes"]),
            (
                instance("kubernetes", vec![node("my-context"), broken]),
                given(),
                vec![
                    "node kube0: its endpoint `my-context` is a context of docker",
                    "node kube1: its file buildkitd.toml",
                ],
            ),
            (
                instance("kubernetes", vec![node("kubernetes:///kube?kubeconfig=./k")]),
                given(),
                vec!["`./k` is relative"],
            ),
            (instance("kubernetes", vec![node("kubernetes:///kube?kubeconfig=%2")]), given(), vec!["cannot be read"]),
            (instance("kubernetes", vec![node("kubernetes:///kube")]), bare, vec!["it says no kubeconfig"]),
        ] {
            let reasons = requests(&instance, &given).unwrap_err();
            assert_eq!(reasons.len(), wanted.len(), "{reasons:?}");
            assert!(reasons.iter().zip(wanted).all(|(reason, wanted)| reason.contains(wanted)), "{reasons:?}");
        }
    }
}
