//! LLBBridge.Ping: answered here with what the node's pods said to it, so that the pod of a build can be chosen later.
//!
//! BuildKit's client gives this call 15 s (`client/build.go`, v0.33) and asks before anything else of a build, so it is the
//! one call of a build that a slow cold start would fail.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::build::{Build, Stage};
use super::{answers, forward, unary};

/// What is left of the client's time for the way back.
const MARGIN: Duration = Duration::from_secs(4);

/// The answer of BuildKit v0.33.1, for a node of which no pod was ever asked. The default image follows BuildKit's stable
/// releases, and capabilities are only ever added.
const BUILTIN: &[u8] = include_bytes!("ping.bin");

/// A client that gives no time is not kept waiting longer than BuildKit's.
const LONGEST: Duration = Duration::from_secs(11);

pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, build: &Arc<Build>) {
    let fleet = build.client().node().fleet();
    let patience = request.headers().get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
    let patience = patience.map_or(LONGEST, |timeout| timeout.saturating_sub(MARGIN));
    let mut stage = build.stage();
    let failed = async {
        let mut told = None;
        let over = stage.wait_for(|stage| match stage {
            Stage::Over(status) => {
                told.clone_from(status);
                status.is_some()
            }
            _ => false,
        });
        let _ = over.await;
        match told {
            Some(status) => status,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = unary::cancelled(&mut respond) => {}
        learnt = fleet.ping_answer(patience) => {
            tracing::debug!(node = %fleet.name(), builtin = learnt.is_none(), "answered a ping");
            answers::send(respond, Some(learnt.unwrap_or(Bytes::from_static(BUILTIN))));
        }
        status = failed => forward::refuse(&mut respond, &status),
    }
}

/// gRPC's header: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read_in_every_unit() {
        for (text, wanted) in [
            ("14999961u", Some(Duration::from_micros(14_999_961))),
            ("15S", Some(Duration::from_secs(15))),
            ("100m", Some(Duration::from_millis(100))),
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("5n", Some(Duration::from_nanos(5))),
            ("", None),
            ("S", None),
            ("15", None),
            ("1.5S", None),
            ("15s", None),
        ] {
            assert_eq!(timeout(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_built_in_answer_is_one_whole_message() {
        let length = u32::from_be_bytes(BUILTIN[1..5].try_into().unwrap()) as usize;
        assert_eq!((BUILTIN[0], length), (0, BUILTIN.len() - 5));
    }
}
