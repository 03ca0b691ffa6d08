//! The pods of one node as one thing: started when needed, ready when they answer, warm connections, and the story of a wait.

mod ask;
mod bulk;
mod error;
mod follow;
mod lease;
mod node;
mod ping;
mod placements;
mod pulse;
mod reported;
mod silence;
mod state;
mod upstream;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use bulk::Bulk;
pub use error::StartError;
pub(crate) use lease::Fate;
pub use lease::Lease;
pub use node::{FleetConfig, NodeFleet};
pub use placements::Placement;
pub use reported::Reported;
pub use view::{NodeSnapshot, NodeStatus, PingAnswer, PodSnapshot, PodStatus, Remembered};
