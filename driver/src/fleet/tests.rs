//! Fleets whose pods are in this process.

mod ping;
mod pods;
