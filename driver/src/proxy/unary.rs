//! Unary calls as whole messages: read from a client, asked of a pod, given back.
//!
//! What is held whole can be asked again of another pod when the first one ends.

use std::borrow::Cow;
use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};

use super::client::Client;
use super::forward;
use crate::wire::{self, Code, Status};

/// The longest call that is held. BuildKit takes 16 MiB; larger ones are for BuildKit to refuse.
const LARGEST: usize = 64 << 20;

/// The message of a body that holds one uncompressed message, for a peek.
pub(super) fn message<M: prost::Message + Default>(body: &Bytes) -> Option<M> {
    M::decode(wire::carried(body)?).ok()
}

/// What a call is asked with, as often as needed.
#[derive(Debug, Clone)]
pub(super) struct Question {
    head: Parts,
    body: Bytes,
}

impl Question {
    /// Reads a client's call to its end. `None` when it was told that the call is too long, or is gone.
    pub(super) async fn read(request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Option<Self> {
        let (head, mut from) = request.into_parts();
        let mut whole = BytesMut::new();
        while let Some(chunk) = from.data().await {
            let chunk = chunk.ok()?;
            let _ = from.flow_control().release_capacity(chunk.len());
            if whole.len() + chunk.len() > LARGEST {
                let text = format!("a request of more than {} MiB", LARGEST >> 20);
                forward::refuse(respond, &Status::new(Code::ResourceExhausted, text));
                return None;
            }
            whole.extend_from_slice(&chunk);
        }
        Some(Self::new(head, whole.freeze()))
    }

    pub(super) fn new(mut head: Parts, body: Bytes) -> Self {
        head.uri = forward::absolute(&head.uri);
        Self { head, body }
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// The same call about something else.
    pub(super) fn with_body(&self, body: Bytes) -> Self {
        Self { head: self.head.clone(), body }
    }

    pub(super) fn without_header(mut self, name: &str) -> Self {
        self.head.headers.remove(name);
        self
    }

    /// Sends it, with all of its body.
    pub(super) async fn ask(&self, mut requests: SendRequest<Bytes>) -> Result<Asked, h2::Error> {
        let mut request = Request::new(());
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.head.headers.clone();
        let (response, mut body) = requests.send_request(request, false)?;
        // When the pod takes no more, its answer says why.
        if forward::send(&mut body, self.body.clone()).await.is_ok() {
            let _ = body.send_data(Bytes::new(), true);
        }
        Ok(Asked { response, _body: body })
    }
}

/// A call that is under way. Dropping it cancels the call.
#[derive(Debug)]
pub(super) struct Asked {
    response: ResponseFuture,
    _body: SendStream<Bytes>,
}

impl Asked {
    /// Waits for the whole answer.
    pub(super) async fn answer(self) -> Result<Answer, h2::Error> {
        let (head, mut from) = self.begin().await?;
        let mut pieces = Vec::new();
        while let Some(chunk) = from.data().await {
            let chunk = chunk?;
            let _ = from.flow_control().release_capacity(chunk.len());
            pieces.push(chunk);
        }
        let trailers = from.trailers().await?;
        Ok(Answer { head, pieces, trailers })
    }

    /// Waits for the headers of an answer that comes in pieces.
    pub(super) async fn begin(self) -> Result<(Response<()>, RecvStream), h2::Error> {
        let (head, from) = self.response.await?.into_parts();
        Ok((Response::from_parts(head, ()), from))
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    head: Response<()>,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    /// Where the status stands: in the trailers, or in the headers of an answer that has nothing else.
    pub(super) fn end(&self) -> &HeaderMap {
        self.trailers.as_ref().unwrap_or(self.head.headers())
    }

    pub(super) fn is_ok(&self) -> bool {
        wire::code(self.end()).is_none_or(|code| code == 0)
    }

    /// Its status in words.
    pub(super) fn text(&self) -> Cow<'_, str> {
        wire::message_text(self.end())
    }

    pub(super) fn message<M: prost::Message + Default>(&self) -> Option<M> {
        message(&self.pieces.concat().into())
    }

    /// Gives it to the client.
    pub(super) async fn give(self, mut respond: SendResponse<Bytes>) {
        let nothing_else = self.pieces.is_empty() && self.trailers.is_none();
        let Ok(mut to) = respond.send_response(self.head, nothing_else) else { return };
        if nothing_else {
            return;
        }
        for piece in self.pieces {
            if forward::send(&mut to, piece).await.is_err() {
                return;
            }
        }
        let _ = match self.trailers {
            Some(trailers) => to.send_trailers(trailers),
            None => to.send_data(Bytes::new(), true),
        };
    }
}

/// Asks a pod that may answer it, for a call that is no part of a build of this client.
pub(super) async fn to_pod(question: &Question, mut respond: SendResponse<Bytes>, client: &Client) {
    let asked = async {
        let lease = client.any_pod().await?;
        let answer = async { question.ask(lease.requests().await?).await?.answer().await }.await;
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => Err(forward::lost(&lease, &error).await),
        }
    };
    tokio::select! {
        () = cancelled(&mut respond) => {}
        asked = asked => match asked {
            Ok(answer) => answer.give(respond).await,
            Err(status) => forward::refuse(&mut respond, &status),
        }
    }
}

/// Resolves when the client has cancelled the call.
pub(super) async fn cancelled(respond: &mut SendResponse<Bytes>) {
    let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
}
