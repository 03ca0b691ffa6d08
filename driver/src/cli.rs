//! The command line: one file per command, a client of the daemon's API.
