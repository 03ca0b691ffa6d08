//! Builders and their nodes, as the store keeps them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BuilderName, BuildkitdConfig, Driver, Endpoint, NodeName, Platform};

/// The driver options as the user wrote them, by key. They are typed by [`crate::options`].
pub type DriverOpts = BTreeMap<String, String>;

/// One node: equal pods behind one socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: NodeName,
    pub endpoint: Endpoint,
    #[serde(default)]
    pub driver_opts: DriverOpts,
    /// Given by `--platform`; empty when the user left it open.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Arguments for `buildkitd`, one word each.
    #[serde(default)]
    pub buildkitd_flags: Vec<String>,
    /// Given by `--buildkitd-config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<BuildkitdConfig>,
}

/// A named group of nodes of one driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    pub name: BuilderName,
    pub driver: Driver,
    pub nodes: Vec<Node>,
}

impl Builder {
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}
