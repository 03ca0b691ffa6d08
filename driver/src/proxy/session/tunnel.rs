//! A Session call as the byte stream that its messages carry.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use super::deframe::Deframer;
use super::outbox::Outbox;
use crate::proxy::forward::poll_room;
use crate::wire::{Code, Status};

/// How the stream is to end, seen from this side.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) enum Ending {
    /// We are the server of the outer call: it ends with trailers.
    Trailers,
    /// We are its client: it ends with END_STREAM.
    HalfClose,
}

/// The byte stream inside a Session call.
pub(in crate::proxy) struct Tunnel {
    from: RecvStream,
    deframer: Deframer,
    /// Taken from the stream and not yet deframed.
    input: Bytes,
    to: SendStream<Bytes>,
    ending: Ending,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("ending", &self.ending).finish_non_exhaustive()
    }
}

impl Tunnel {
    pub(in crate::proxy) fn new(from: RecvStream, to: SendStream<Bytes>, ending: Ending) -> Self {
        Self { from, deframer: Deframer::new(), input: Bytes::new(), to, ending }
    }

    /// The next bytes, as they have come; none when the peer has ended the stream in order.
    pub(super) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if !self.input.is_empty() {
                let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                let data = self.deframer.next(&mut self.input).map_err(invalid)?;
                if data.is_empty() {
                    continue;
                }
                return Poll::Ready(Ok(Some(data)));
            }
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    // The window opens with the take: what may wait here is bounded by the windows of the HTTP/2 inside.
                    let _ = self.from.flow_control().release_capacity(chunk.len());
                    self.input = chunk;
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None if self.deframer.is_between() => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// Sends all that is to leave.
    pub(super) fn poll_send(&mut self, outbox: &mut Outbox, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(message) = outbox.next() {
            let room = ready!(poll_room(&mut self.to, message.len(), cx)).ok_or(io::ErrorKind::BrokenPipe)?;
            let piece = message.split_to(room.min(message.len()));
            self.to.send_data(piece, false).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Whatever became of the HTTP/2 inside, the outer call ends in order.
impl Drop for Tunnel {
    fn drop(&mut self) {
        // When the peer has gone before, there is nobody to hear of the end.
        let _ = match self.ending {
            Ending::HalfClose => self.to.send_data(Bytes::new(), true),
            Ending::Trailers => self.to.send_trailers(Status::new(Code::Ok, "").trailers()),
        };
    }
}
