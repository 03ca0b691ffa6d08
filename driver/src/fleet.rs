//! The pods of one node as one thing: started when needed, ready when they answer, warm connections, and the story of a wait.

mod follow;
mod node;
mod upstream;
mod view;

pub use node::{FleetConfig, Lease, NodeFleet, StartError};
pub use view::{NodeSnapshot, NodeStatus, PodSnapshot, PodStatus, Remembered};
