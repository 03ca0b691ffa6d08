//! What is to leave to one end of a session, as gRPC messages of `BytesMessage`.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most that one message carries: four whole frames of the size that BuildKit takes. Its own pieces are 32 KiB at most, and
/// its limit is 16 MiB.
const PIECE: usize = 4 * ((16 << 10) + 9);

/// Messages are written one behind the other into blocks of memory; one that does not begin with this much room begins a new
/// block. Most are far smaller than a block.
const ROOM: usize = 16 << 10;
const BLOCK: usize = 128 << 10;

/// Less than this is no room: frames of a few bytes would only fill a message up.
const LEAST: usize = 1 << 10;

/// Room before the data for what frames it: gRPC's prefix, the field's tag, and a length of up to `PIECE`.
const HEAD: usize = 5 + 1 + 3;

/// Messages that are sealed or still gathered. Many frames go out as one message, because each message costs the peer as
/// much as 10 KiB of data.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sealed: VecDeque<Bytes>,
    /// Not yet framed, behind `HEAD` bytes of room.
    gathered: BytesMut,
}

impl Outbox {
    /// Takes all of it: what may be much has to ask for [`Outbox::room`] before.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.gathered.is_empty() {
                if self.gathered.capacity() < HEAD + ROOM {
                    self.gathered.reserve(BLOCK);
                }
                self.gathered.put_bytes(0, HEAD);
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.left()));
            self.gathered.extend_from_slice(now);
            bytes = rest;
            if self.left() == 0 {
                self.seal();
            }
        }
    }

    /// How much of what can wait should be put here now: none before what is there has left.
    pub(super) fn room(&self) -> usize {
        let left = if self.gathered.is_empty() { PIECE } else { self.left() };
        if self.sealed.is_empty() && left >= LEAST { left } else { 0 }
    }

    /// Whether more is here than the peer should be given a reason for.
    pub(super) fn is_crowded(&self) -> bool {
        self.sealed.len() > 16
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.gathered.is_empty()
    }

    /// What is to leave next; who sends it takes it from the front.
    pub(super) fn next(&mut self) -> Option<&mut Bytes> {
        if self.sealed.front().is_some_and(Bytes::is_empty) {
            self.sealed.pop_front();
        }
        if self.sealed.is_empty() && !self.gathered.is_empty() {
            self.seal();
        }
        self.sealed.front_mut()
    }

    fn left(&self) -> usize {
        self.gathered.capacity().min(HEAD + PIECE) - self.gathered.len()
    }

    fn seal(&mut self) {
        self.sealed.push_back(framed(self.gathered.split()));
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
    fn a_message_is_what_a_grpc_library_makes_of_it() {
        for length in [1, 127, 128, 16_383, 16_384, PIECE] {
            let data = vec![b'x'; length];
            let mut outbox = Outbox::default();
            outbox.put(&data);
            assert_eq!(outbox.next(), Some(&mut wire::message(&BytesMessage { data })), "{length} bytes");
        }
    }

    #[test]
    fn what_is_more_than_a_message_takes_becomes_several() {
        let mut outbox = Outbox::default();
        let data: Vec<u8> = (0..PIECE * 5 / 2).map(|at| at as u8).collect();
        for part in data.chunks(1000) {
            outbox.put(part);
        }
        assert_eq!(outbox.room(), 0, "with a message that waits");
        let mut carried = Vec::new();
        while let Some(message) = outbox.next() {
            let message = std::mem::take(message);
            assert!(message.len() <= HEAD + PIECE, "{} bytes", message.len());
            let content = wire::carried(&message).expect("one gRPC message");
            carried.extend_from_slice(&<BytesMessage as prost::Message>::decode(content).unwrap().data);
        }
        assert_eq!(carried, data);
        assert!(outbox.is_empty());
        assert_eq!(outbox.room(), PIECE);
    }
}
