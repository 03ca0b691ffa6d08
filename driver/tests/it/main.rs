//! Hermetic tests: no root, no network, no program but this one.

mod cli;
mod cli_buildx;
mod cli_daemon;
mod daemon;
mod daemon_process;
mod kubernetes;
mod kubernetes_dial;
mod local;
mod proxy;
mod proxy_ends;
mod remote;
mod support;
mod tidy;
