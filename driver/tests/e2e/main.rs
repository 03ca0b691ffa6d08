//! End to end: the real program with real `buildkitd`s, through stock `docker buildx` and `buildctl`, on this machine and in
//! a real Kubernetes cluster.
//!
//! `scripts/cluster build`, `images` and `up` provide the programs and the cluster; the tests run in its network:
//!
//! ```text
//! cargo test --features e2e --test e2e --no-run
//! scripts/package --profile dev
//! scripts/cluster sh cargo test --offline --features e2e --test e2e -- --skip quiet:: --test-threads=4
//! scripts/cluster sh cargo test --offline --features e2e --test e2e -- quiet:: --test-threads=4
//! ```
//!
//! A program or cluster that is missing fails a test; none is skipped.

mod builds;
mod certs;
mod ci;
mod cli;
mod compose;
mod connect;
mod front;
mod guides;
mod h2spec;
mod hand;
mod jobs;
mod kube;
mod local;
mod package;
mod pick;
mod plugin;
mod quiet;
mod records;
mod remote;
mod support;
mod ways;

#[expect(dead_code, reason = "shared with the hermetic tests, which use more of it")]
#[path = "../it/support"]
mod made {
    pub(crate) mod semantics;
    pub(crate) mod user;
}
