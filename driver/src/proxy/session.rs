//! The second HTTP/2, inside Control.Session, in which the user's end is the server and `buildkitd` the client.
//!
//! The daemon speaks it on both sides: it greets the user's end at once, whose clock of 10 s for that greeting
//! (`golang.org/x/net/http2`, preface timeout) would run out while a pod starts, and hands each call of the pod through.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use tokio::task::JoinSet;

use super::forward::{self, RelayError, Untouched};
use super::place::Place;
use super::tunnel::{Ending, Tunnel};
use crate::fleet::Lease;
use crate::wire::{self, Code, Status};

/// What a pod may take to answer a new session with its greeting.
const GREETING: Duration = Duration::from_secs(20);

/// What the end of a session may take on the user's side before it is cut.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves one Session call until either end leaves.
pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, place: &Place) {
    let (head, from_user) = request.into_parts();
    let Ok(to_user) = respond.send_response(wire::headers(), false) else { return };
    let status = Arc::new(OnceLock::new());
    let tunnel = Tunnel::new(from_user, to_user, Ending::Trailers(Arc::clone(&status)));
    let (user, mut user_connection) = match wire::connect(tunnel).await {
        Ok(pair) => pair,
        Err(error) => {
            tracing::debug!(%error, "a session could not be greeted");
            return;
        }
    };
    let attached = attach(Request::from_parts(head, ()), user, place);
    tokio::select! {
        ended = &mut user_connection => {
            tracing::trace!(?ended, "the user's end of a session has left");
        }
        end = attached => {
            tracing::debug!(status = %end, "the pod's end of a session has left");
            // Set once, here; the tunnel reads it when it is dropped or shut down.
            let _ = status.set(end);
            part(user_connection).await;
        }
    }
}

/// Lets what was said already reach the user's end, then ends the stream.
async fn part(connection: wire::Client<Tunnel>) {
    // The handle for new calls is gone, so the connection ends itself once the calls on it have.
    let _ = tokio::time::timeout(FAREWELL, connection).await;
}

/// Runs the pod's side: returns the status with which the user's session has to end.
async fn attach(head: Request<()>, user: SendRequest<Bytes>, place: &Place) -> Status {
    let (lease, mut pod) = match forward::pod_for_call(place).await {
        Ok(found) => found,
        Err(status) => return status,
    };
    let (mut parts, ()) = head.into_parts();
    parts.uri = forward::absolute(&parts.uri);
    let opened = pod.send_request(Request::from_parts(parts, ()), false);
    let (response, to_pod) = match opened {
        Ok(opened) => opened,
        Err(error) => return forward::lost(&lease, &error).await,
    };
    drop(pod);
    let response = match tokio::time::timeout(GREETING, response).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return forward::lost(&lease, &error).await,
        Err(_) => {
            let text = format!("pod {} did not answer a new session within {} s", lease.pod(), GREETING.as_secs());
            return Status::new(Code::Unavailable, text);
        }
    };
    if response.body().is_end_stream() {
        return refused(response.headers());
    }
    let tunnel = Tunnel::new(response.into_body(), to_pod, Ending::HalfClose);
    let ended = relay_calls(tunnel, user).await;
    match (ended, lease.is_usable()) {
        (Ok(()), true) => Status::new(Code::Ok, ""),
        (Err(error), true) => Status::new(Code::Unavailable, format!("pod {} ended the session: {error}", lease.pod())),
        (Ok(()), false) => fate(&lease).await,
        (Err(error), false) => forward::lost(&lease, &error).await,
    }
}

async fn fate(lease: &Lease) -> Status {
    forward::lost(lease, &h2::Error::from(Reason::CANCEL)).await
}

/// The pod's calls, each handed to the user's end, until the pod ends the session.
async fn relay_calls(tunnel: Tunnel, user: SendRequest<Bytes>) -> Result<(), h2::Error> {
    let mut connection = wire::serve(tunnel).await?;
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok((request, respond))) => {
                    calls.spawn(call(request, respond, user.clone()));
                }
            },
            Some(ended) = calls.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a call of a session panicked");
                }
            }
        }
    }
}

async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, user: SendRequest<Bytes>) {
    let ready = tokio::select! {
        ready = user.ready() => ready,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let result = match ready {
        Ok(user) => forward::relay(Vec::new(), request, &mut respond, user, &mut Untouched).await,
        Err(error) => Err(RelayError::Callee { error, begun: None }),
    };
    if let Err(RelayError::Callee { error, begun }) = result {
        let reason = error.reason().unwrap_or(Reason::CANCEL);
        match begun {
            Some(mut answer) => answer.send_reset(reason),
            None => respond.send_reset(reason),
        }
    }
}

/// A pod that answers a session with nothing but a status.
fn refused(headers: &HeaderMap) -> Status {
    Status::new(Code::Unavailable, format!("the pod refused the session: {}", wire::message_text(headers)))
}
