//! What a `create` would make of a builder: pure, with all that is wrong said at once.

use std::path::PathBuf;

use buildfleet_proto::fleet::CreateRequest;

use super::backends::Located;
use super::given;
use crate::builder::{
    Address, AttachTarget, Builder, BuilderName, BuildkitdConfig, Driver, DriverOpts, Endpoint, EndpointError, Node,
    NodeName, Platform,
};
use crate::options::{DriverOptions, split_driver_opts};

mod error;
mod remote;

pub(super) use error::PlanError;

/// Finds the cluster of kubeconfig files and a context's name.
pub(super) type Locate<'a> = &'a dyn Fn(Vec<PathBuf>, Option<String>) -> Located;

/// A request, as far as it can be read without knowing what exists.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) builder: Option<BuilderName>,
    pub(super) append: bool,
    node: Option<NodeName>,
    driver: Option<Driver>,
    opts: DriverOpts,
    platforms: Vec<Platform>,
    flags: Vec<String>,
    config: Option<BuildkitdConfig>,
    endpoint: Option<String>,
    attach: Option<AttachTarget>,
    paths: Vec<PathBuf>,
    context: Option<String>,
    problems: Vec<String>,
}

/// What is to be stored and started.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// The whole builder after the change.
    pub(super) builder: Builder,
    /// The node that is new or changed, one of the builder's.
    pub(super) node: Node,
    pub(super) options: DriverOptions,
    pub(super) change: Change,
    pub(super) warnings: Vec<String>,
}

/// What happens to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is the first one of a new builder.
    Create,
    /// It joins a builder.
    Append,
    /// It is there already.
    Update,
}

impl Plan {
    /// The node's pods are those of a workload that is there and has its options.
    pub(super) fn adopt(&mut self, to: AttachTarget) {
        self.node.endpoint = attached(self.node.endpoint.clone(), Some(to));
        for node in self.builder.nodes.iter_mut().filter(|node| node.name == self.node.name) {
            node.endpoint.clone_from(&self.node.endpoint);
        }
    }
}

impl Asked {
    pub(super) fn parse(request: CreateRequest) -> Self {
        let mut problems = Vec::new();
        let mut note = |problem: String| problems.extend(problem.lines().map(str::to_owned));
        let builder = read(&request.builder, &mut note);
        let node = read(&request.node, &mut note);
        let driver = read(&request.driver, &mut note);
        let opts = split_driver_opts(&request.driver_opt).unwrap_or_else(|errors| {
            note(errors.to_string());
            DriverOpts::new()
        });
        let platforms = given::platforms(&request.platform, &mut note);
        let flags = given::flags(&request.buildkitd_flags, &mut note);
        let attach = read(&request.attach, &mut note);
        let config = given::config(request.buildkitd_config, &mut note);
        let kubeconfig = request.kubeconfig.unwrap_or_default();
        for path in kubeconfig.paths.iter().filter(|path| !path.starts_with('/')) {
            note(format!("kubeconfig path `{path}` is not absolute"));
        }
        Self {
            builder,
            append: request.append,
            node,
            driver,
            opts,
            platforms,
            flags,
            config,
            endpoint: given::some(request.endpoint),
            attach,
            paths: kubeconfig.paths.into_iter().map(PathBuf::from).collect(),
            context: given::some(kubeconfig.context),
            problems,
        }
    }

    /// Puts the request beside what exists. `taken` tells the node names of all builders; `locate` finds the cluster.
    pub(super) fn plan(
        mut self,
        name: BuilderName,
        existing: Option<&Builder>,
        taken: &dyn Fn(&NodeName) -> bool,
        locate: Locate<'_>,
    ) -> Result<Plan, PlanError> {
        let old = existing.and_then(|builder| builder.node(self.node.as_ref()?));
        match (existing, self.append) {
            (None, true) => return Err(PlanError::Missing(name)),
            (Some(_), false) if old.is_none() => return Err(PlanError::Exists(name)),
            _ => {}
        }
        let present = old.map(Node::driver).or_else(|| existing?.driver());
        let driver = match (self.driver, present) {
            (Some(given), _) => given,
            (None, Some(driver)) => driver,
            (None, None) => {
                if self.problems.is_empty() {
                    let several =
                        existing.map(|builder| format!(", and builder {name} has nodes of {}", builder.drivers()));
                    let several = several.unwrap_or_default();
                    self.problems
                        .push(format!("no driver is given{several}: accepted are kubernetes, local and remote"));
                }
                return Err(PlanError::Invalid(self.problems));
            }
        };
        if let Some(node) = old.filter(|old| old.driver() != driver) {
            return Err(PlanError::OtherDriver { node: node.name.clone(), present: node.driver(), given: driver });
        }
        let node_name = match (&self.node, old) {
            (Some(node), None) if taken(node) => return Err(PlanError::NodeTaken(node.clone())),
            (Some(node), _) => Some(node.clone()),
            (None, _) => self.free_name(&name, taken),
        };
        let to = self.attach.take();
        if let (Some(to), Some(Node { name, endpoint: Endpoint::Kubernetes(_), .. })) = (&to, old) {
            return Err(PlanError::Attached { node: name.clone(), to: to.clone() });
        }
        let endpoint = self.endpoint(driver, old, existing, locate);
        if let Some(endpoint) = &endpoint {
            self.problems.extend(remote::problems(endpoint, &self.opts, old.map(|old| &old.driver_opts)));
        }
        let endpoint = endpoint.map(|endpoint| attached(endpoint, to.clone()));
        if to.is_some() && driver != Driver::Kubernetes {
            self.problems.push(format!("--attach is for the kubernetes driver, not for {driver}"));
        }
        let is_attached = matches!(endpoint, Some(Endpoint::Attached { .. }));
        if is_attached {
            // What stays may say how whoever made the pods has made them.
            self.check_attached();
        }
        let mut network_host = false;
        if let Some(old) = old {
            // As buildx does it: what is given replaces the old, what is not given stays.
            keep(&mut self.opts, &old.driver_opts);
            keep(&mut self.platforms, &old.platforms);
            keep(&mut self.flags, &old.buildkitd_flags);
            keep(&mut self.config, &old.config);
        }
        if let Some(config) = &self.config {
            self.problems
                .extend(config_problem(driver, &self.flags).map(|problem| format!("--buildkitd-config: {problem}")));
            network_host = config.allows_network_host();
        }
        let is_allowed = network_host || self.flags.iter().any(|flag| flag.starts_with(ENTITLEMENT));
        if driver == Driver::Kubernetes && !is_attached && !is_allowed {
            // buildx's default, without which `docker buildx build --allow network.host` would fail here alone.
            self.flags.push(format!("{ENTITLEMENT}=network.host"));
        }
        let options = DriverOptions::parse(driver, &self.opts);
        if let Err(errors) = &options {
            self.problems.extend(errors.to_string().lines().map(str::to_owned));
        }
        let (Some(node_name), Some(endpoint), Ok(options), true) =
            (node_name, endpoint, options, self.problems.is_empty())
        else {
            return Err(PlanError::Invalid(self.problems));
        };
        if let Some(old) = old {
            let namespace = |opts: &DriverOpts| opts.get(NAMESPACE).cloned().unwrap_or_default();
            let (from, to) = (namespace(&old.driver_opts), namespace(&self.opts));
            if from != to {
                return Err(PlanError::Moved { node: node_name, from, to });
            }
        }
        let change = match (existing, old) {
            (None, _) => Change::Create,
            (Some(_), None) => Change::Append,
            (Some(_), Some(_)) => Change::Update,
        };
        let node = Node {
            name: node_name,
            endpoint,
            driver_opts: self.opts,
            platforms: self.platforms,
            buildkitd_flags: self.flags,
            config: self.config,
        };
        let mut builder = existing.cloned().unwrap_or(Builder { name, nodes: Vec::new() });
        let warnings = join(&mut builder, &node);
        Ok(Plan { builder, node, options, change, warnings })
    }

    /// Pods of somebody else are as they are.
    fn check_attached(&mut self) {
        for (key, value) in &self.opts {
            if !OF_ATTACHED.contains(&key.as_str()) {
                let accepted = OF_ATTACHED.join(", ");
                self.problems.push(format!(
                    "driver option `{key}`: the pods of --attach are not buildfleet's to change; accepted beside it are {accepted}"
                ));
            } else if key == "transport" && !["auto", "exec"].contains(&value.as_str()) {
                self.problems.push(format!(
                    "driver option `transport`: `{value}` needs certificates in the pods, which only buildfleet's own have; accepted beside --attach are auto and exec"
                ));
            }
        }
        if self.config.is_some() {
            self.problems.push("--buildkitd-config: the pods of --attach are not buildfleet's to change".to_owned());
        }
        if !self.flags.is_empty() {
            self.problems.push("--buildkitd-flags: the pods of --attach are not buildfleet's to change".to_owned());
        }
    }

    /// `<builder><n>` with the first number that is free.
    fn free_name(&mut self, builder: &BuilderName, taken: &dyn Fn(&NodeName) -> bool) -> Option<NodeName> {
        let mut numbered = (0..).map(|n| NodeName::numbered(builder, n));
        match numbered.find(|name| name.as_ref().map_or(true, |name| !taken(name))) {
            Some(Ok(name)) => Some(name),
            Some(Err(error)) => {
                self.problems.push(error.to_string());
                None
            }
            None => None,
        }
    }

    fn endpoint(
        &mut self,
        driver: Driver,
        old: Option<&Node>,
        existing: Option<&Builder>,
        locate: Locate<'_>,
    ) -> Option<Endpoint> {
        let given = self.endpoint.take();
        let found = match (driver, given, old) {
            (Driver::Remote, Some(given), _) => match given.parse() {
                Ok(Address::Remote(address)) => Ok(Endpoint::Remote(address)),
                Ok(Address::Cluster(at)) => {
                    let (paths, context) = (std::mem::take(&mut self.paths), self.context.take());
                    remote::fixed(at, paths, context, locate)
                }
                Err(error) => Err(EndpointError::to_string(&error)),
            },
            (Driver::Remote, None, None) => Err(EndpointError::Missing.to_string()),
            (_, Some(endpoint), _) => Err(EndpointError::Unwanted { driver, endpoint }.to_string()),
            (_, None, Some(old)) => {
                if let (false, Some(namespace)) = (self.opts.is_empty(), old.driver_opts.get(NAMESPACE)) {
                    self.opts.entry(NAMESPACE.to_owned()).or_insert_with(|| namespace.clone());
                }
                Ok(old.endpoint.clone())
            }
            (Driver::Local, None, None) => Ok(Endpoint::Local),
            (Driver::Kubernetes, None, None) => {
                locate(std::mem::take(&mut self.paths), self.context.take()).map(|(context, namespace)| {
                    // The context's namespace is fixed with it: its pods would be lost when somebody changes it there.
                    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
                    self.opts.entry(NAMESPACE.to_owned()).or_insert(namespace);
                    Endpoint::Kubernetes(context)
                })
            }
        };
        let others = existing
            .iter()
            .flat_map(|builder| &builder.nodes)
            .filter(|node| Some(&node.name) != old.map(|old| &old.name));
        match found {
            Ok(endpoint @ (Endpoint::Remote(_) | Endpoint::Cluster { .. }))
                if others.clone().any(|node| node.endpoint == endpoint) =>
            {
                self.problems.push("another node of the builder has this endpoint already".to_owned());
                None
            }
            Ok(endpoint) => Some(endpoint),
            Err(problem) => {
                self.problems.extend(problem.lines().map(str::to_owned));
                None
            }
        }
    }
}

const NAMESPACE: &str = "namespace";

/// The options that say something of the daemon's side alone.
const OF_ATTACHED: [&str; 5] = [NAMESPACE, "loadbalance", "retry", "timeout", "transport"];

/// Where a node is whose pods are those of `to`, or were before.
fn attached(endpoint: Endpoint, to: Option<AttachTarget>) -> Endpoint {
    match (endpoint, to) {
        (Endpoint::Kubernetes(context) | Endpoint::Attached { context, .. }, Some(to)) => {
            Endpoint::Attached { context, to }
        }
        (endpoint, _) => endpoint,
    }
}

const ENTITLEMENT: &str = "--allow-insecure-entitlement";

/// Why a configuration would be of no use.
fn config_problem(driver: Driver, flags: &[String]) -> Option<&'static str> {
    let is_config = |flag: &String| {
        let name = flag.trim_start_matches('-');
        flag.starts_with('-') && (name == "config" || name.starts_with("config="))
    };
    match driver {
        Driver::Remote => Some("the remote driver starts no buildkitd that it could configure"),
        Driver::Kubernetes | Driver::Local if flags.iter().any(is_config) => {
            Some("--config among the flags of buildkitd names another file")
        }
        Driver::Kubernetes | Driver::Local => None,
    }
}

/// Puts `node` into `builder`. A platform that it claims is no longer another node's.
fn join(builder: &mut Builder, node: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    match builder.nodes.iter_mut().find(|present| present.name == node.name) {
        Some(present) => *present = node.clone(),
        None => builder.nodes.push(node.clone()),
    }
    for other in builder.nodes.iter_mut().filter(|other| other.name != node.name) {
        other.platforms.retain(|platform| {
            let claimed = node.platforms.contains(platform);
            if claimed {
                warnings.push(format!("platform {platform} moves from node {} to node {}", other.name, node.name));
            }
            !claimed
        });
    }
    warnings
}

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, note: &mut impl FnMut(String)) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    text.parse().map_err(|error: T::Err| note(error.to_string())).ok()
}

fn keep<T: Default + PartialEq + Clone>(given: &mut T, old: &T) {
    if *given == T::default() {
        given.clone_from(old);
    }
}

#[cfg(test)]
mod tests;
