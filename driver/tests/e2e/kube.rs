//! The `kubernetes` driver: builds in the pods of a real cluster.

mod accounts;
mod attach;
mod cold_start;
mod deaths;
mod doctor;
pub(crate) mod drain;
mod drift;
mod failures;
mod gc;
mod image;
mod import;
mod in_cluster;
mod job;
mod lifecycle;
mod many_pods;
mod mixed;
mod nodes;
mod options;
mod owners;
mod parity;
mod proxied;
mod records;
mod transports;
mod unreachable;
mod volumes;
