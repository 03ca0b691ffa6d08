//! The `remote` driver's addresses that are no sockets: another machine, a container, and pods of a cluster.

mod cluster;
mod container;
mod ssh;
