//! Hermetic tests: no root, no network, no program but this one.

mod cli;
mod cli_buildx;
mod cli_daemon;
mod daemon;
mod kubernetes;
mod kubernetes_dial;
mod local;
mod daemon_process;
mod proxy;
mod remote;
mod support;
mod tidy;
