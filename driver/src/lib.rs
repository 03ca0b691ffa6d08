//! buildfleet: local sockets in front of a fleet of BuildKit pods.
//!
//! Which module may use which stands in ARCHITECTURE.md and is checked by `tests/it/tidy.rs`.

pub mod backend;
pub mod builder;
pub mod certificates;
pub mod cli;
pub mod daemon;
pub mod fleet;
mod fnv;
pub mod manifest;
pub mod options;
pub mod placement;
pub mod proxy;
pub mod report;
pub mod settings;
pub mod shutdown;
pub mod socket;
pub mod store;
mod wire;
