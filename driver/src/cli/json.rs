//! The documents of `--format json`. Field names are those of `docker buildx ls --format json` where it has the field.

use std::collections::{BTreeMap, BTreeSet};

use buildfleet_proto::fleet;
use serde::Serialize;

use super::platforms;

/// A builder, as `ls`, `inspect` and `create` print it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BuilderView {
    name: String,
    driver: String,
    current: bool,
    /// Always false: the pods of a node are listed in it, and never take its place.
    dynamic: bool,
    socket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_activity: Option<String>,
    nodes: Vec<NodeView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeView {
    name: String,
    /// In a builder of several drivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    endpoint: String,
    socket: String,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    err: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    platforms: Vec<String>,
    explicit_platforms: Vec<String>,
    driver_opts: BTreeMap<String, String>,
    flags: Vec<String>,
    labels: BTreeMap<String, String>,
    wanted: u32,
    pods: Vec<PodView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    drift: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    owner: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<PlacementView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<ConfigView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigView {
    toml: String,
    /// Names alone.
    files: BTreeSet<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PlacementView {
    policy: String,
    latest: Vec<PlacedView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PlacedView {
    r#ref: String,
    pod: String,
    because: String,
    at: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PodView {
    name: String,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    transport: String,
    builds: u32,
}

impl From<fleet::Builder> for BuilderView {
    fn from(builder: fleet::Builder) -> Self {
        let is_mixed = is_mixed(&builder);
        let fleet::Builder { name, driver, current, nodes, socket, created, last_activity } = builder;
        Self {
            name,
            driver,
            current,
            dynamic: false,
            socket,
            created: created.map(|time| time.to_string()),
            last_activity: last_activity.map(|time| time.to_string()),
            nodes: nodes.into_iter().map(|node| NodeView::of(node, is_mixed)).collect(),
        }
    }
}

/// Whether its nodes are of several drivers.
pub(super) fn is_mixed(builder: &fleet::Builder) -> bool {
    builder.nodes.iter().any(|node| node.driver != builder.driver && !node.driver.is_empty())
}

impl NodeView {
    fn of(node: fleet::Node, is_mixed: bool) -> Self {
        let fleet::Node {
            name,
            endpoint,
            socket,
            status,
            reason,
            driver_opts,
            buildkitd_flags,
            platforms,
            worker_platforms,
            buildkit_version,
            wanted,
            pods,
            worker_labels,
            placement,
            drift,
            owner,
            users,
            buildkitd_config,
            driver,
            kubeconfig: _,
        } = node;
        Self {
            name,
            driver: is_mixed.then_some(driver),
            endpoint,
            socket,
            status,
            err: reason,
            version: buildkit_version,
            platforms: platforms::all(&platforms, &worker_platforms),
            explicit_platforms: platforms,
            driver_opts: driver_opts.into_iter().collect(),
            flags: buildkitd_flags,
            labels: worker_labels.into_iter().collect(),
            wanted,
            pods: pods.into_iter().map(Into::into).collect(),
            drift,
            owner,
            users,
            placement: placement.map(Into::into),
            config: buildkitd_config
                .map(|config| ConfigView { toml: config.toml, files: config.files.into_keys().collect() }),
        }
    }
}

impl From<fleet::Placement> for PlacementView {
    fn from(placement: fleet::Placement) -> Self {
        let fleet::Placement { policy, latest } = placement;
        let placed = |placed: fleet::Placed| {
            let fleet::Placed { build_ref, pod, because, at } = placed;
            PlacedView { r#ref: build_ref, pod, because, at: at.unwrap_or_default().to_string() }
        };
        Self { policy, latest: latest.into_iter().map(placed).collect() }
    }
}

impl From<fleet::Pod> for PodView {
    fn from(pod: fleet::Pod) -> Self {
        let fleet::Pod { name, status, reason, host, started, builds, transport } = pod;
        Self { name, status, reason, host, started: started.map(|time| time.to_string()), transport, builds }
    }
}

/// What a command did to a builder, where there is nothing to show of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Done<'a> {
    pub(super) name: &'a str,
    /// `removed`, `started`, `stopped`, `left` or `current`.
    pub(super) result: &'a str,
}
