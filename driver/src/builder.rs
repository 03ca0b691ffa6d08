//! What a user names: builders, nodes, platforms, and where a node's pods come from. Knows neither Kubernetes nor gRPC.

mod endpoint;
mod name;
mod node;
mod platform;

pub use endpoint::{Driver, Endpoint, EndpointError, KubeContext, RemoteAddress};
pub use name::{BuilderName, NameError, NodeName, PodName};
pub use node::{Builder, DriverOpts, Node};
pub use platform::{Platform, PlatformError};
