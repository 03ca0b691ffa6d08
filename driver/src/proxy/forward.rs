//! One call from one HTTP/2 connection to another: raw bytes, metadata and trailers, with back-pressure both ways.
//!
//! A cancellation travels at once in both directions: `buildkitd` waits for open streams when it is told to stop.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri};

use super::place::Place;
use crate::fleet::Lease;
use crate::wire::{self, Code, Status};

/// Why a call did not come to its end.
#[derive(Debug)]
pub(super) enum RelayError {
    /// Who asked is gone or has cancelled: nobody is left to be told.
    Caller,
    /// Who should answer failed, perhaps in the middle of the answer.
    Callee { error: h2::Error, begun: Option<SendStream<Bytes>> },
}

/// Sees an answer pass by.
pub(super) trait Passing {
    fn data(&mut self, _chunk: &Bytes) {}

    /// May change the trailers before they go out.
    fn trailers(&mut self, _trailers: &mut HeaderMap) {}
}

/// Lets everything pass as it came.
#[derive(Debug)]
pub(super) struct Untouched;

impl Passing for Untouched {}

/// Forwards a call to the connection's pod, and tells the client what became of the pod when that fails.
pub(super) async fn to_pod(request: Request<RecvStream>, respond: SendResponse<Bytes>, place: &Place) {
    to_pod_after(Vec::new(), request, respond, place).await;
}

/// As [`to_pod`], for a call whose body was read in part.
pub(super) async fn to_pod_after(
    read: Vec<Bytes>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    place: &Place,
) {
    let found = tokio::select! {
        found = pod_for_call(place) => found,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let (lease, requests) = match found {
        Ok(found) => found,
        Err(status) => return refuse(&mut respond, &status),
    };
    to_leased(read, request, respond, &lease, requests, &mut Untouched).await;
}

/// Forwards a call to a pod that was chosen already.
pub(super) async fn to_leased(
    read: Vec<Bytes>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    lease: &Lease,
    requests: SendRequest<Bytes>,
    passing: &mut impl Passing,
) {
    let mut passing = Explained { lease, passing };
    match relay(read, request, &mut respond, requests, &mut passing).await {
        Ok(()) | Err(RelayError::Caller) => {}
        Err(RelayError::Callee { error, begun }) => rescue(lease, &error, respond, begun).await,
    }
}

/// The connection's pod and a handle for one call on it. A pod that went while the client was idle is replaced.
pub(super) async fn pod_for_call(place: &Place) -> Result<(Arc<Lease>, SendRequest<Bytes>), Status> {
    let mut lease = place.lease().await?;
    let mut result = lease.requests().await;
    if result.is_err() && !lease.is_usable() {
        drop(lease);
        lease = place.lease().await?;
        result = lease.requests().await;
    }
    match result {
        Ok(requests) => Ok((lease, requests)),
        Err(error) => Err(lost(&lease, &error).await),
    }
}

/// Moves one call. `passing` sees the answer.
pub(super) async fn relay(
    read: Vec<Bytes>,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    mut requests: SendRequest<Bytes>,
    passing: &mut impl Passing,
) -> Result<(), RelayError> {
    let failed = |error| RelayError::Callee { error, begun: None };
    let (parts, mut asked) = request.into_parts();
    let mut head = Request::from_parts(parts, ());
    *head.uri_mut() = absolute(head.uri());
    let (mut response, mut asking) = requests.send_request(head, false).map_err(failed)?;
    let mut upload = pin!(async {
        for chunk in read {
            send(&mut asking, chunk).await?;
        }
        pump(&mut asked, &mut asking, &mut Untouched).await
    });
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
        passing.trailers(&mut parts.headers);
    }
    let answer = respond.send_response(Response::from_parts(parts, ()), only_headers);
    let mut answer = answer.map_err(|_| RelayError::Caller)?;
    if only_headers {
        return Ok(());
    }
    let end = {
        let mut download = pin!(pump(&mut answered, &mut answer, passing));
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
enum PumpError {
    From(h2::Error),
    To,
}

/// Moves a body and its trailers. Takes no more from one end than the other has room for.
async fn pump(from: &mut RecvStream, to: &mut SendStream<Bytes>, passing: &mut impl Passing) -> Result<(), PumpError> {
    loop {
        let chunk = tokio::select! {
            chunk = from.data() => chunk,
            _ = poll_fn(|cx| to.poll_reset(cx)) => return Err(PumpError::To),
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(PumpError::From)?;
        let length = chunk.len();
        passing.data(&chunk);
        send(to, chunk).await?;
        let _ = from.flow_control().release_capacity(length);
    }
    match from.trailers().await.map_err(PumpError::From)? {
        Some(mut trailers) => {
            passing.trailers(&mut trailers);
            to.send_trailers(trailers).map_err(|_| PumpError::To)
        }
        None => to.send_data(Bytes::new(), true).map_err(|_| PumpError::To),
    }
}

async fn send(to: &mut SendStream<Bytes>, mut chunk: Bytes) -> Result<(), PumpError> {
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

/// A pod that was told to go cancels its builds itself, in words that name neither the pod nor the reason: those are added.
struct Explained<'a, P> {
    lease: &'a Lease,
    passing: &'a mut P,
}

impl<P: Passing> Passing for Explained<'_, P> {
    fn data(&mut self, chunk: &Bytes) {
        self.passing.data(chunk);
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.passing.trailers(trailers);
        let text = wire::message_text(trailers);
        let broken_off = match wire::code(trailers) {
            None | Some(0) => false,
            Some(code) => {
                [Code::Cancelled as u16, Code::Unavailable as u16].contains(&code) || text.contains("context canceled")
            }
        };
        let fate = if broken_off { self.lease.trouble() } else { None };
        let Some(fate) = fate else { return };
        let status = Status::new(Code::Unavailable, format!("{} ({text})", fate.text));
        // The details repeat the code and would contradict the new one.
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            trailers.remove(name);
        }
        trailers.extend(status.trailers());
    }
}
