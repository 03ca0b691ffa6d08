//! Hermetic tests: no root, no network, no program but this one.

mod cli;
mod cli_buildx;
mod cli_daemon;
mod kubernetes;
mod kubernetes_dial;
mod proxy;
mod support;
mod tidy;
