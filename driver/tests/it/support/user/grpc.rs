//! gRPC spoken by hand over HTTP/2 streams: what a session carries, where a test needs to see single frames.

use std::future::poll_fn;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use tonic::Status;

/// One uncompressed message.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// What a failed stream means for the call on it.
pub(crate) fn broken(error: &h2::Error) -> Status {
    Status::unavailable(format!("the stream broke: {error}"))
}

/// Sends bytes as fast as the peer takes them; `sent` hears of each piece that was handed over.
pub(crate) async fn send(to: &mut SendStream<Bytes>, mut bytes: Bytes, sent: impl Fn(usize)) -> Result<(), Status> {
    while !bytes.is_empty() {
        to.reserve_capacity(bytes.len());
        let room = match to.capacity() {
            0 => poll_fn(|cx| to.poll_capacity(cx)).await,
            room => Some(Ok(room)),
        };
        let room = room.ok_or_else(|| Status::cancelled("the peer takes no more"))?.map_err(|error| broken(&error))?;
        let piece = bytes.split_to(room.min(bytes.len()));
        let length = piece.len();
        to.send_data(piece, false).map_err(|error| broken(&error))?;
        sent(length);
    }
    Ok(())
}

/// Ends a stream that the caller has half of.
pub(crate) fn half_close(to: &mut SendStream<Bytes>) {
    // Nobody is there to hear of it when the peer has reset the stream.
    let _ = to.send_data(Bytes::new(), true);
}

/// The messages of one direction of a call.
#[derive(Debug)]
pub(crate) struct Messages {
    body: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    pub(crate) fn new(body: RecvStream) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some([_, length @ ..]) = self.buffer.first_chunk::<5>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            match self.body.data().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ends in the middle of a message")),
                Some(Err(error)) => return Err(broken(&error)),
                Some(Ok(chunk)) => {
                    let _ = self.body.flow_control().release_capacity(chunk.len());
                    self.buffer.extend_from_slice(&chunk);
                }
            }
        }
    }

    /// The trailers, after the last message.
    pub(crate) async fn trailers(mut self) -> Result<HeaderMap, Status> {
        let trailers = self.body.trailers().await.map_err(|error| broken(&error))?;
        trailers.ok_or_else(|| Status::internal("a call has no trailers"))
    }
}

/// The status that a call ended with.
pub(crate) fn verdict(trailers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(trailers) {
        None => Err(Status::internal("a call ended without a status")),
        Some(status) if status.code() == tonic::Code::Ok => Ok(()),
        Some(status) => Err(status),
    }
}

/// The headers with which an answer begins.
pub(crate) fn begin(respond: &mut SendResponse<Bytes>) -> Result<SendStream<Bytes>, Status> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    respond.send_response(response, false).map_err(|error| broken(&error))
}

/// Ends an answer.
pub(crate) fn finish(mut answer: SendStream<Bytes>, status: &Status) {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    // As above: who has left needs no status.
    let _ = answer.send_trailers(trailers);
}
