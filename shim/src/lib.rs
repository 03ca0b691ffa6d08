//! What the plugins for docker know of docker and buildx: where plugins are, which builders there are, whose they are,
//! and where a command line goes.

pub mod argv;
mod bounded;
pub mod docker;
pub mod environment;
pub mod load;
pub mod plugin;
pub mod plugins;
pub mod real;
pub mod relay;
pub mod route;
pub mod runtime;
pub mod store;

/// `off` in this variable hands everything on to the real buildx.
pub const SHIM: &str = "BUILDFLEET_SHIM";
