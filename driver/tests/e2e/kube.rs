//! The `kubernetes` driver: builds in the pods of a real cluster.

mod cold_start;
mod deaths;
mod failures;
mod job;
mod lifecycle;
mod nodes;
mod transports;
mod unreachable;
