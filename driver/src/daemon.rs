//! The daemon: builders, their sockets and fleets, and the API that the command line speaks.

pub mod hint;
pub mod launch;
