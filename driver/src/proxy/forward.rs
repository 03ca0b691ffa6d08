//! One call from one HTTP/2 connection to another: raw bytes, metadata and trailers, with back-pressure both ways.
//!
//! A cancellation travels at once in both directions: `buildkitd` waits for open streams when it is told to stop.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri};

use super::client::Client;
use crate::fleet::{Fate, Lease};
use crate::wire::{self, Code, Status};

/// Why a call did not come to its end.
#[derive(Debug)]
enum RelayError {
    /// Who asked is gone or has cancelled: nobody is left to be told.
    Caller,
    /// Who should answer failed, perhaps in the middle of the answer.
    Callee { error: h2::Error, begun: Option<SendStream<Bytes>> },
}

/// Forwards a call that is no part of a build of this client to a pod that may answer it.
pub(super) async fn to_pod(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, client: &Client) {
    let found = tokio::select! {
        found = client.any_pod() => found,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    match found {
        Ok(lease) => to_leased(request, respond, &lease).await,
        Err(status) => refuse(&mut respond, &status),
    }
}

/// Forwards a call to a pod, and tells the client what became of the pod when that fails.
pub(super) async fn to_leased(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, lease: &Lease) {
    let requests = match lease.requests().await {
        Ok(requests) => requests,
        Err(error) => return refuse(&mut respond, &lost(lease, &error).await),
    };
    match relay(request, &mut respond, requests, |end| explain(lease, end)).await {
        Ok(()) | Err(RelayError::Caller) => {}
        Err(RelayError::Callee { error, begun }) => rescue(lease, &error, respond, begun).await,
    }
}

/// Moves one call. `explain` may change the end of the answer before it goes out.
async fn relay(
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    mut requests: SendRequest<Bytes>,
    explain: impl Fn(&mut HeaderMap),
) -> Result<(), RelayError> {
    let failed = |error| RelayError::Callee { error, begun: None };
    let (parts, mut asked) = request.into_parts();
    let mut head = Request::from_parts(parts, ());
    *head.uri_mut() = absolute(head.uri());
    let (mut response, mut to) = requests.send_request(head, false).map_err(failed)?;
    let mut upload = pin!(pump(&mut asked, &mut to, |_| {}));
    let mut uploading = true;
    let response = loop {
        tokio::select! {
            response = &mut response => break response.map_err(failed)?,
            done = &mut upload, if uploading => {
                uploading = false;
                if let Err(PumpError::From(_)) = done {
                    return Err(RelayError::Caller);
                }
            }
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return Err(RelayError::Caller),
        }
    };
    let (mut parts, mut answered) = response.into_parts();
    let only_headers = answered.is_end_stream();
    if only_headers {
        explain(&mut parts.headers);
    }
    let answer = respond.send_response(Response::from_parts(parts, ()), only_headers);
    let mut answer = answer.map_err(|_| RelayError::Caller)?;
    if only_headers {
        return Ok(());
    }
    let end = {
        let mut download = pin!(pump(&mut answered, &mut answer, explain));
        loop {
            tokio::select! {
                done = &mut download => break done,
                done = &mut upload, if uploading => {
                    uploading = false;
                    if let Err(PumpError::From(_)) = done {
                        return Err(RelayError::Caller);
                    }
                }
            }
        }
    };
    match end {
        Ok(()) => Ok(()),
        Err(PumpError::To) => Err(RelayError::Caller),
        Err(PumpError::From(error)) => Err(RelayError::Callee { error, begun: Some(answer) }),
    }
}

/// Which end of a pump failed.
#[derive(Debug)]
pub(super) enum PumpError {
    From(h2::Error),
    To,
}

/// Moves a body and its trailers, as `passing` leaves them. Takes no more from one end than the other has room for.
async fn pump(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    passing: impl Fn(&mut HeaderMap),
) -> Result<(), PumpError> {
    loop {
        let chunk = tokio::select! {
            chunk = from.data() => chunk,
            _ = poll_fn(|cx| to.poll_reset(cx)) => return Err(PumpError::To),
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(PumpError::From)?;
        let length = chunk.len();
        send(to, chunk).await?;
        let _ = from.flow_control().release_capacity(length);
    }
    match from.trailers().await.map_err(PumpError::From)? {
        Some(mut trailers) => {
            passing(&mut trailers);
            to.send_trailers(trailers).map_err(|_| PumpError::To)
        }
        None => to.send_data(Bytes::new(), true).map_err(|_| PumpError::To),
    }
}

/// Sends all of a piece, as the peer has room for it.
pub(super) async fn send(to: &mut SendStream<Bytes>, mut chunk: Bytes) -> Result<(), PumpError> {
    while !chunk.is_empty() {
        let room = poll_fn(|cx| poll_room(to, chunk.len(), cx)).await.ok_or(PumpError::To)?;
        let piece = chunk.split_to(room.min(chunk.len()));
        to.send_data(piece, false).map_err(|_| PumpError::To)?;
    }
    Ok(())
}

/// Room to send on a stream, up to `wanted` bytes; `None` when the peer takes no more.
pub(super) fn poll_room(to: &mut SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    if to.poll_reset(cx).is_ready() {
        return Poll::Ready(None);
    }
    to.reserve_capacity(wanted);
    // `poll_capacity` tells of changes only: room that is there already has to be asked for.
    if to.capacity() > 0 {
        return Poll::Ready(Some(to.capacity()));
    }
    loop {
        match ready!(to.poll_capacity(cx)) {
            None | Some(Err(_)) => return Poll::Ready(None),
            Some(Ok(0)) => {}
            Some(Ok(room)) => return Poll::Ready(Some(room)),
        }
    }
}

/// The client's connection names scheme and authority, or a path only; a request needs all three.
pub(super) fn absolute(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.authority.get_or_insert(Authority::from_static("localhost"));
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

pub(super) fn refuse(respond: &mut SendResponse<Bytes>, status: &Status) {
    tracing::info!(%status, "refused a call");
    if let Err(error) = respond.send_response(status.response(), true) {
        tracing::debug!(%error, "a client left before it could be refused");
    }
}

/// The one place where a pod's failure becomes what the client sees.
async fn rescue(lease: &Lease, error: &h2::Error, mut respond: SendResponse<Bytes>, begun: Option<SendStream<Bytes>>) {
    let reset = error.is_reset() && error.is_remote() && lease.is_usable();
    if reset {
        // The pod ended this one call and lives on: so does the client's connection.
        let reason = error.reason().unwrap_or(Reason::CANCEL);
        return match begun {
            Some(mut answer) => answer.send_reset(reason),
            None => respond.send_reset(reason),
        };
    }
    let status = lost(lease, error).await;
    match begun {
        None => refuse(&mut respond, &status),
        Some(mut answer) => {
            tracing::info!(%status, "a call broke off");
            let _ = answer.send_trailers(status.trailers());
        }
    }
}

/// What to say of a pod that does not answer any more.
pub(super) async fn lost(lease: &Lease, error: &h2::Error) -> Status {
    let fate = lease.fate().await;
    Status::new(Code::Unavailable, format!("{} ({error})", fate.text))
}

/// What an answer that a pod gave says of the pod itself: one that was told to go cancels its builds, in words that name
/// neither the pod nor the reason.
pub(super) fn broken_off(lease: &Lease, end: &HeaderMap) -> Option<Fate> {
    let code = wire::code(end).filter(|code| *code != 0)?;
    let cancelled = [Code::Cancelled as u16, Code::Unavailable as u16].contains(&code);
    if cancelled || wire::message_text(end).contains("context canceled") { lease.trouble() } else { None }
}

/// Adds the pod and the reason to the words of a pod that was told to go.
fn explain(lease: &Lease, trailers: &mut HeaderMap) {
    let Some(fate) = broken_off(lease, trailers) else { return };
    let status = Status::new(Code::Unavailable, format!("{} ({})", fate.text, wire::message_text(trailers)));
    // The details repeat the code and would contradict the new one.
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        trailers.remove(name);
    }
    trailers.extend(status.trailers());
}
