//! Calls that the daemon answers itself, from what it knows: no pod is started for them.

use std::time::SystemTime;

use buildfleet_proto::Timestamp;
use buildfleet_proto::buildkit::{BuildkitVersion, InfoResponse};
use buildfleet_proto::health::{HealthCheckResponse, health_check_response::ServingStatus};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderName, HeaderValue, Request};

use super::client::Client;
use super::unary::{self, Question};
use crate::fleet::NodeFleet;
use crate::wire::{self, Code, Status};

pub(super) fn health(_request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    send(respond, Some(wire::message(&HealthCheckResponse { status: ServingStatus::Serving.into() })));
}

pub(super) fn info(respond: SendResponse<Bytes>, fleet: &NodeFleet) {
    let workers = fleet.workers();
    let version = workers.record.into_iter().find_map(|worker| worker.buildkit_version);
    let unknown = || BuildkitVersion { package: "github.com/moby/buildkit".to_owned(), ..BuildkitVersion::default() };
    let version = version.unwrap_or_else(unknown);
    send(respond, Some(wire::message(&InfoResponse { buildkit_version: Some(version) })));
}

/// A client that asks for workers by a filter gets its answer from a pod, if there is one: the filter's language is
/// containerd's.
pub(super) async fn list_workers(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, client: &Client) {
    let Some(question) = Question::read(request, &mut respond).await else { return };
    let fleet = client.node().fleet();
    // An unfiltered request is the empty message: five bytes of framing.
    if question.body().len() > 5 && !fleet.reachable().is_empty() {
        return unary::to_pod(&question, respond, client).await;
    }
    send(respond, Some(wire::message(&fleet.workers())));
}

/// One message, or none, with the status OK.
pub(super) fn send(mut respond: SendResponse<Bytes>, message: Option<Bytes>) {
    let done = Status::new(Code::Ok, "");
    let sent = match message {
        None => respond.send_response(done.response(), true).map(drop),
        Some(message) => respond.send_response(wire::headers(), false).and_then(|mut body| {
            body.send_data(message, false)?;
            body.send_trailers(done.trailers())
        }),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a client left before its answer");
    }
}

/// The clock of who answers: `buildkitd` sends it with progress and history, before it looks for anything
/// (`control/control.go`, v0.33).
pub(super) fn now() -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_static("buildkit-current-timestamp");
    timestamp(SystemTime::now()).map(|now| (name, now))
}

fn timestamp(time: SystemTime) -> Option<HeaderValue> {
    HeaderValue::from_str(&Timestamp::from(time).to_string()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_is_told_as_buildkit_tells_it() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        assert_eq!(timestamp(time).unwrap(), "2023-11-14T22:13:20.000000005Z");
    }
}
