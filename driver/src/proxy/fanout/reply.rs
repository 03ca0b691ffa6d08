//! The one answer that a client gets for a call that several pods have answered.

use std::future::poll_fn;

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::proxy::forward;
use crate::wire;

/// The client has gone, or has cancelled: nobody is left to be told.
#[derive(Debug)]
pub(in crate::proxy) struct Gone;

/// An answer that has begun.
#[derive(Debug)]
pub(in crate::proxy) struct Reply {
    to: SendStream<Bytes>,
}

impl Reply {
    /// Sends the headers.
    pub(in crate::proxy) fn begin(
        respond: &mut SendResponse<Bytes>,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Self, Gone> {
        let mut head = wire::headers();
        head.headers_mut().extend(header);
        respond.send_response(head, false).map(|to| Self { to }).map_err(|_| Gone)
    }

    /// Sends bytes of messages as the client has room for them.
    pub(in crate::proxy) async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        forward::send(&mut self.to, bytes).await.map_err(|_| Gone)
    }

    /// Resolves when the client does not want the answer any more.
    pub(in crate::proxy) async fn gone(&mut self) {
        let _ = poll_fn(|cx| self.to.poll_reset(cx)).await;
    }

    pub(in crate::proxy) fn end(mut self, trailers: HeaderMap) {
        if let Err(error) = self.to.send_trailers(trailers) {
            tracing::debug!(%error, "a client left before the end of its answer");
        }
    }
}

/// Answers with a status alone.
pub(in crate::proxy) fn end(respond: &mut SendResponse<Bytes>, trailers: HeaderMap) {
    let mut response = wire::headers();
    response.headers_mut().extend(trailers);
    if let Err(error) = respond.send_response(response, true) {
        tracing::debug!(%error, "a client left before its answer");
    }
}
