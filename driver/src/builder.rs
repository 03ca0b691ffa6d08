//! What a user names: builders, nodes, platforms, where a node's pods come from, and what configures them. Knows neither
//! Kubernetes nor gRPC.

mod attach;
mod config;
mod endpoint;
mod name;
mod node;
mod platform;

pub use attach::{AttachError, AttachKind, AttachTarget};
pub use config::{BuildkitdConfig, ConfigError};
pub use endpoint::{
    Address, ClusterAddress, ClusterTarget, ContainerAddress, Driver, Endpoint, EndpointError, Engine, KubeContext,
    RemoteAddress, ServicePort, SshAddress,
};
pub use name::{BuilderName, NameError, NodeName, PodName};
pub use node::{Builder, DriverOpts, Node};
pub use platform::{Platform, PlatformError};
