//! Why a node's pods did not come up.

use std::time::Duration;

use crate::backend::ApplyError;
use crate::builder::NodeName;

/// Why a node did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to start node {node}")]
    Apply {
        node: NodeName,
        #[source]
        source: ApplyError,
    },
    /// `story` has one line per pod or node that says how far it got.
    #[error("node {node} has {ready} of {wanted} pods ready after {:.1} s\n{}", waited.as_secs_f32(), story.join("\n"))]
    TimedOut { node: NodeName, ready: u32, wanted: u32, waited: Duration, story: Vec<String> },
    #[error("node {0} has been removed")]
    Removed(NodeName),
    #[error("the daemon is shutting down")]
    ShuttingDown,
}
