//! Hermetic tests: no root, no network, no program but this one.

mod buildkitd;
mod builds_bulk;
mod builds_cancel;
mod builds_lost;
mod builds_order;
mod builds_place;
mod builds_replay;
mod builds_sessions;
mod builds_start;
mod cli;
mod cli_buildx;
mod cli_daemon;
mod daemon;
mod daemon_process;
mod fanout;
mod fanout_content;
mod fanout_history;
mod kubernetes;
mod kubernetes_dial;
mod local;
mod proxy;
mod proxy_ends;
mod remote;
mod support;
mod tidy;
