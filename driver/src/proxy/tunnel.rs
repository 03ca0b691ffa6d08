//! A stream of `BytesMessage` as the byte stream that it carries, so that HTTP/2 can be spoken inside it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deframe::Deframer;
use super::forward::poll_room;
use crate::wire::{Code, Status};

/// The most that one message carries: BuildKit's own pieces are 32 KiB at most, and its limit is 16 MiB.
const PIECE: usize = 64 << 10;

/// Messages are written one behind the other into blocks of memory; one that does not begin with this much room begins a new
/// block. Most are far smaller than a block.
const ROOM: usize = 16 << 10;
const BLOCK: usize = 128 << 10;

/// Room before the data for what frames it: gRPC's prefix, the field's tag, and a length of up to `PIECE`.
const HEAD: usize = 5 + 1 + 3;

/// How the stream is to end, seen from this side.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// We are the server of the outer call: it ends with trailers.
    Trailers,
    /// We are its client: it ends with END_STREAM.
    HalfClose,
}

/// The byte stream inside a Session call.
pub(super) struct Tunnel {
    from: RecvStream,
    deframer: Deframer,
    /// Taken from the stream and not yet deframed.
    input: Bytes,
    /// Deframed and not yet read.
    data: Bytes,
    to: SendStream<Bytes>,
    /// Written and not yet framed, behind `HEAD` bytes of room. HTTP/2 writes a frame's head and its data apart and many
    /// frames before it flushes: they go out as one message, because each message costs the peer as much as 10 KiB of data.
    gathered: BytesMut,
    /// Framed and not yet sent.
    output: Bytes,
    ending: Ending,
    ended: bool,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("ending", &self.ending).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Tunnel {
    pub(super) fn new(from: RecvStream, to: SendStream<Bytes>, ending: Ending) -> Self {
        let (input, data, gathered, output) = Default::default();
        Self { from, deframer: Deframer::new(), input, data, to, gathered, output, ending, ended: false }
    }

    /// Sends all that was written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.output = framed(self.gathered.split());
        self.poll_drain(cx)
    }

    /// Takes what there is room for in the message that is gathered.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        if self.gathered.is_empty() {
            if self.gathered.capacity() < HEAD + ROOM {
                self.gathered.reserve(BLOCK);
            }
            self.gathered.put_bytes(0, HEAD);
        }
        let taken = bytes.len().min(self.room());
        self.gathered.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn room(&self) -> usize {
        self.gathered.capacity().min(HEAD + PIECE) - self.gathered.len()
    }

    fn is_full(&self) -> bool {
        !self.gathered.is_empty() && self.room() == 0
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let room = ready!(poll_room(&mut self.to, self.output.len(), cx)).ok_or(io::ErrorKind::BrokenPipe)?;
            let piece = self.output.split_to(room.min(self.output.len()));
            self.to.send_data(piece, false).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // When the peer has gone before, there is nobody to hear of the end.
        let _ = match self.ending {
            Ending::HalfClose => self.to.send_data(Bytes::new(), true),
            Ending::Trailers => self.to.send_trailers(Status::new(Code::Ok, "").trailers()),
        };
    }
}

/// HTTP/2 connections that fail are dropped without a shutdown; the outer call still has to end in order.
impl Drop for Tunnel {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.data.is_empty() {
                let take = this.data.len().min(out.remaining());
                out.put_slice(&this.data.split_to(take));
                return Poll::Ready(Ok(()));
            }
            if !this.input.is_empty() {
                let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                this.data = this.deframer.next(&mut this.input).map_err(invalid)?;
                continue;
            }
            match ready!(this.from.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    // The window opens with the take, not with the read: what is buffered here is one chunk.
                    let _ = this.from.flow_control().release_capacity(chunk.len());
                    this.input = chunk;
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None if this.deframer.is_between() => return Poll::Ready(Ok(())),
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_full() {
            ready!(this.poll_send(cx))?;
        }
        Poll::Ready(Ok(this.gather(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_full() {
            ready!(this.poll_send(cx))?;
        }
        Poll::Ready(Ok(pieces.iter().map(|piece| this.gather(piece)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        this.end();
        Poll::Ready(Ok(()))
    }
}

/// One gRPC message holding one `BytesMessage` with what stands behind the `HEAD` bytes of room.
fn framed(mut gathered: BytesMut) -> Bytes {
    let length = gathered.len() - HEAD;
    let mut head = [0; HEAD];
    let mut end = 5;
    head[end] = 0x0a;
    end += 1;
    // A varint: seven bits a byte, the lowest first, all but the last marked.
    let mut rest = length;
    loop {
        let more = if rest >= 0x80 { 0x80 } else { 0 };
        head[end] = (rest & 0x7f) as u8 | more;
        end += 1;
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    // PIECE bounds it far below 4 GiB.
    let message = (end - 5 + length) as u32;
    head[1..5].copy_from_slice(&message.to_be_bytes());
    // The head stands right before the data; what is left of its room is cut off.
    gathered[HEAD - end..HEAD].copy_from_slice(&head[..end]);
    gathered.advance(HEAD - end);
    gathered.freeze()
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::buildkit::BytesMessage;

    use super::*;
    use crate::wire;

    #[test]
    fn a_frame_is_what_a_grpc_library_makes_of_the_message() {
        for length in [1, 127, 128, 16_383, 16_384, PIECE] {
            let data = vec![b'x'; length];
            let gathered = [vec![0; HEAD], data.clone()].concat();
            assert_eq!(framed(gathered.as_slice().into()), wire::message(&BytesMessage { data }), "{length} bytes");
        }
    }
}
