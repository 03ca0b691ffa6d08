//! A call of the fleet's own to a pod: one message there and one back.

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};

use crate::wire;

/// Calls of which the fleet makes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    ListWorkers,
    Solve,
    Ping,
    Return,
    Check,
}

impl Method {
    fn url(self) -> &'static str {
        match self {
            Self::ListWorkers => "http://localhost/moby.buildkit.v1.Control/ListWorkers",
            Self::Solve => "http://localhost/moby.buildkit.v1.Control/Solve",
            Self::Ping => "http://localhost/moby.buildkit.v1.frontend.LLBBridge/Ping",
            Self::Return => "http://localhost/moby.buildkit.v1.frontend.LLBBridge/Return",
            Self::Check => "http://localhost/grpc.health.v1.Health/Check",
        }
    }
}

/// Why a pod gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("failed to speak HTTP/2")]
    Http(#[source] h2::Error),
    #[error("{method:?} failed with code {code}: {message}")]
    Refused { method: Method, code: u16, message: String },
    #[error("answered {0:?} with bytes that are no such answer")]
    Malformed(Method),
}

/// Asks, and returns the answer as it came: one message with its framing. Dropping it cancels the call.
///
/// `build` is the Ref of the build that a call of the gateway belongs to.
pub(super) async fn ask(
    requests: SendRequest<Bytes>,
    method: Method,
    build: Option<&str>,
    question: Bytes,
) -> Result<Bytes, AskError> {
    let mut request = Request::post(method.url()).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(build) = build {
        request = request.header(wire::BUILD, build);
    }
    let request = request.body(()).map_err(|_| AskError::Malformed(method))?;
    let mut requests = requests.ready().await.map_err(AskError::Http)?;
    let (response, mut body) = requests.send_request(request, false).map_err(AskError::Http)?;
    body.send_data(question, true).map_err(AskError::Http)?;
    let response = response.await.map_err(AskError::Http)?;
    refused(method, response.headers())?;
    let mut body = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(AskError::Http)?;
        let _ = body.flow_control().release_capacity(chunk.len());
        answer.extend_from_slice(&chunk);
    }
    if let Some(trailers) = body.trailers().await.map_err(AskError::Http)? {
        refused(method, &trailers)?;
    }
    if wire::carried(&answer).is_none() {
        return Err(AskError::Malformed(method));
    }
    Ok(answer.freeze())
}

fn refused(method: Method, headers: &HeaderMap) -> Result<(), AskError> {
    match wire::code(headers) {
        None | Some(0) => Ok(()),
        Some(code) => Err(AskError::Refused { method, code, message: wire::message_text(headers).into_owned() }),
    }
}
