//! What the plugins for docker know of docker and buildx: where plugins are, which builders there are, whose they are.

pub mod docker;
pub mod environment;
pub mod plugins;
pub mod runtime;
pub mod store;
