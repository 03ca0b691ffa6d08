//! What the gateway of a pod's `buildkitd` can do: asked once for each version of BuildKit, off the path to readiness.
//!
//! LLBBridge.Ping is a call of a build, so there has to be one: an internal Solve that builds nothing. It is ended as a
//! client ends its build, by Return with an empty result, because that is the one end of which `buildkitd` logs no error.
//! An internal Solve is not in its history either.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use buildfleet_proto::buildkit::frontend::{PingRequest, Result as BuildResult, ReturnRequest};
use buildfleet_proto::buildkit::{ListWorkersResponse, SolveRequest};
use bytes::Bytes;

use super::ask::{AskError, Method};
use super::upstream::Upstream;
use super::{NodeFleet, PingAnswer};
use crate::{report, wire};

/// What a pod may take for all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a pod's answer to Ping is not known.
#[derive(Debug, thiserror::Error)]
enum LearnError {
    #[error("the pod did not answer")]
    Ask(#[source] AskError),
    #[error("the pod did not answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// Asks a pod when the node remembers no answer of the pod's version. One pod is asked at a time, so several pods that
/// become ready together are asked one question.
pub(super) async fn learn(fleet: &NodeFleet, upstream: &Upstream, version: String) {
    let _turn = fleet.ping_turn().await;
    if fleet.knows_ping_of(&version) {
        return;
    }
    let asked = tokio::time::timeout(PATIENCE, ask(upstream)).await.unwrap_or(Err(LearnError::Silent));
    match asked {
        Ok(answer) => fleet.learned_ping(PingAnswer { answer, version }),
        Err(error) => {
            tracing::debug!(pod = %upstream.pod, error = report::chain(&error), "what a pod's gateway can do is not known");
        }
    }
}

async fn ask(upstream: &Upstream) -> Result<Bytes, LearnError> {
    let build = fresh_ref();
    let solve = SolveRequest { r#ref: build.clone(), internal: true, ..SolveRequest::default() };
    let solving = upstream.ask(Method::Solve, None, wire::message(&solve));
    let pinging = async {
        let answer = upstream.ask(Method::Ping, Some(&build), wire::message(&PingRequest {})).await?;
        let nothing = ReturnRequest { result: Some(BuildResult::default()), ..ReturnRequest::default() };
        upstream.ask(Method::Return, Some(&build), wire::message(&nothing)).await?;
        Ok(answer)
    };
    // The end of the Solve is awaited too: one that is cancelled would be logged as an error.
    let (_, answer) = tokio::try_join!(solving, pinging).map_err(LearnError::Ask)?;
    Ok(answer)
}

/// Random enough not to meet a Ref of anybody else.
fn fresh_ref() -> String {
    let random = RandomState::new();
    format!("buildfleet-{:016x}{:016x}", random.hash_one(0), random.hash_one(1))
}

/// What tells one BuildKit from another: workers of one pod say the same.
pub(super) fn version_of(workers: &ListWorkersResponse) -> String {
    let version = workers.record.iter().find_map(|worker| worker.buildkit_version.as_ref());
    version.map_or_else(String::new, |version| {
        [version.package.as_str(), &version.version, &version.revision].join(" ").trim().to_owned()
    })
}
