//! What has to be said to buildx so that its store agrees with ours: pure.

use std::path::Path;

use buildfleet_proto::fleet::{Builder, Node};
use buildfleet_shim::store::is_ours;

use crate::builder::Platform;
use crate::options::DriverOptions;

/// What buildx knows of a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) driver: String,
    pub(super) nodes: Vec<KnownNode>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KnownNode {
    pub(super) name: String,
    pub(super) endpoint: String,
}

impl Known {
    /// Reads what `buildx inspect NAME` prints: a head, and after `Nodes:` one block per node.
    pub(super) fn parse(text: &str) -> Self {
        let mut known = Self::default();
        let mut in_nodes = false;
        for line in text.lines() {
            // Lines that begin with a space belong to labels, rules and files.
            let Some((key, value)) = line.split_once(':') else { continue };
            match (key, in_nodes) {
                ("Nodes", _) => in_nodes = true,
                ("Driver", false) => known.driver = value.trim().to_owned(),
                ("Name", true) => {
                    known.nodes.push(KnownNode { name: value.trim().to_owned(), endpoint: String::new() });
                }
                ("Endpoint", true) => {
                    if let Some(node) = known.nodes.last_mut() {
                        node.endpoint = value.trim().to_owned();
                    }
                }
                _ => {}
            }
        }
        known
    }

    /// Whether we made it: every node is one of our sockets.
    pub(super) fn is_ours(&self, runtime_dir: &Path) -> bool {
        is_ours(&self.driver, self.nodes.iter().map(|node| node.endpoint.as_str()), runtime_dir)
    }

    fn node(&self, name: &str) -> Option<&KnownNode> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// The arguments of one call of buildx.
pub(super) type Step = Vec<String>;

/// The calls that make buildx agree with `builder`. `changed` is the node that this command made or changed; the others
/// are left alone when buildx has them, because a platform that is given again is taken from the node that has it.
pub(super) fn register(
    builder: &Builder,
    known: Option<&Known>,
    changed: &str,
    use_it: bool,
    host: &Platform,
) -> Vec<Step> {
    let none = Known::default();
    let known_nodes = known.unwrap_or(&none);
    let mut exists = known.is_some();
    let mut steps: Vec<Step> = Vec::new();
    for node in &builder.nodes {
        let address = format!("unix://{}", node.socket);
        let is_known = match known_nodes.node(&node.name) {
            Some(known) if known.endpoint == address && node.name != changed => continue,
            Some(_) => true,
            None => false,
        };
        let options = options(node);
        let mut step = words(&["create", "--name", &builder.name, "--driver", "remote", "--node", &node.name]);
        if exists && !is_known {
            step.push("--append".to_owned());
        }
        step.extend(["--platform".to_owned(), platforms(node, options.as_ref(), host).join(",")]);
        // Loading is buildx's own feature. What it was told before, it has to be told otherwise.
        let load = options.as_ref().is_some_and(DriverOptions::default_load);
        if load || is_known {
            step.extend(["--driver-opt".to_owned(), format!("default-load={load}")]);
        }
        step.push(address);
        steps.push(step);
        exists = true;
    }
    // After the additions: the last node of a builder cannot leave.
    let gone = known_nodes.nodes.iter().filter(|known| builder.nodes.iter().all(|node| node.name != known.name));
    steps.extend(gone.map(|known| leave_step(&builder.name, &known.name)));
    if use_it {
        steps.push(words(&["use", &builder.name]));
    }
    steps
}

/// The calls that take back what [`register`] has told of a node before one of its calls failed.
pub(super) fn undo(builder: &str, known: Option<&Known>, changed: &str) -> Vec<Step> {
    match known {
        None => forget(builder),
        Some(known) if known.node(changed).is_none() => vec![leave_step(builder, changed)],
        Some(_) => Vec::new(),
    }
}

/// Has buildx load the status of each node that is told within this time.
pub(super) fn bound(steps: &mut [Step], timeout: &str) {
    for step in steps.iter_mut().filter(|step| makes_a_node(step)) {
        step.insert(1, format!("--timeout={timeout}"));
    }
}

pub(super) fn makes_a_node(step: &Step) -> bool {
    step.first().is_some_and(|word| word == "create") && !step.iter().any(|word| word == "--leave")
}

/// The calls after a node has left.
pub(super) fn leave(builder: &str, known: &Known, node: &str) -> Vec<Step> {
    match known.nodes.as_slice() {
        [only] if only.name == node => forget(builder),
        nodes if nodes.iter().any(|known| known.name == node) => vec![leave_step(builder, node)],
        _ => Vec::new(),
    }
}

/// The calls after a builder was removed.
pub(super) fn forget(builder: &str) -> Vec<Step> {
    vec![words(&["rm", builder])]
}

fn leave_step(builder: &str, node: &str) -> Step {
    words(&["create", "--leave", "--name", builder, "--node", node])
}

fn words(words: &[&str]) -> Step {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What buildx is told that a node builds for. Never nothing: buildx would ask the node, and could then give an arm64
/// build to an amd64 node that emulates.
pub(super) fn platforms(node: &Node, options: Option<&DriverOptions>, host: &Platform) -> Vec<String> {
    if !node.platforms.is_empty() {
        return node.platforms.clone();
    }
    let parsed = |text: &String| text.parse::<Platform>().ok();
    // BuildKit reports the machine's own platform first.
    if let Some(native) = node.worker_platforms.first().and_then(parsed) {
        let is_native = |platform: &Platform| platform.os() == native.os() && platform.arch() == native.arch();
        return node
            .worker_platforms
            .iter()
            .filter(|text| parsed(text).as_ref().is_some_and(is_native))
            .cloned()
            .collect();
    }
    let selected = options.and_then(DriverOptions::machines).and_then(|arch| Platform::linux(arch).ok());
    vec![selected.unwrap_or_else(|| host.clone()).to_string()]
}

/// The node's options, which the daemon has read already.
pub(super) fn options(node: &Node) -> Option<DriverOptions> {
    let opts = node.driver_opts.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    DriverOptions::parse(node.driver.parse().ok()?, &opts).ok()
}

#[cfg(test)]
mod tests;
