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

impl Node {
    pub fn driver(&self) -> Driver {
        self.endpoint.driver()
    }
}

/// A named group of nodes, each of a driver of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    pub name: BuilderName,
    pub nodes: Vec<Node>,
}

impl Builder {
    /// The driver of all nodes, when they have the same.
    pub fn driver(&self) -> Option<Driver> {
        let first = self.nodes.first()?.driver();
        self.nodes.iter().all(|node| node.driver() == first).then_some(first)
    }

    /// The drivers of the nodes, for people: `kubernetes`, or `kubernetes, local` in the order of the nodes.
    pub fn drivers(&self) -> String {
        let mut drivers: Vec<String> = Vec::new();
        for driver in self.nodes.iter().map(|node| node.driver().to_string()) {
            if !drivers.contains(&driver) {
                drivers.push(driver);
            }
        }
        drivers.join(", ")
    }

    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}
