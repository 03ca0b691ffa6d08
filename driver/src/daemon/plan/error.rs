//! Why a `create` is refused, and what the user can do about it.

use crate::builder::{AttachTarget, BuilderName, Driver, NodeName};

/// Why nothing was created.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::daemon) enum PlanError {
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    #[error("builder {0} exists already")]
    Exists(BuilderName),
    #[error("there is no builder {0} to append a node to")]
    Missing(BuilderName),
    #[error("node {node} is of driver {present} and cannot become one of driver {given}")]
    OtherDriver { node: NodeName, present: Driver, given: Driver },
    #[error("another builder has a node {0} already")]
    NodeTaken(NodeName),
    #[error("node {node} has pods of its own and cannot be attached to {to}: they would be left behind")]
    Attached { node: NodeName, to: AttachTarget },
    #[error("node {node} cannot move from namespace {from} to {to}: its pods would be left behind")]
    Moved { node: NodeName, from: String, to: String },
}

impl PlanError {
    /// What the user can do about it, when there is something.
    pub(in crate::daemon) fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(_) => Some("--append adds a node to it, --node NAME changes a node that it has".to_owned()),
            Self::Missing(_) => Some("without --append the builder is made".to_owned()),
            Self::Moved { node, .. } | Self::Attached { node, .. } | Self::OtherDriver { node, .. } => {
                Some(format!("remove it by --leave --node {node}, then append it again"))
            }
            Self::Invalid(_) | Self::NodeTaken(_) => None,
        }
    }
}
