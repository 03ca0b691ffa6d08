//! A byte stream of HTTP/2 cut into its frames: data as it comes, everything else whole.

use bytes::{Buf, Bytes, BytesMut};
use h2::Reason;

/// The length of what stands before each frame.
pub(super) const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// What stands before a frame of data.
pub(super) fn data_head(stream: u32, length: usize, end: bool) -> [u8; HEAD] {
    // The peer's largest frame bounds it below 16 MiB.
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, DATA, if end { END_STREAM } else { 0 }, d, e, f, g]
}

/// Some of a stream's data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) stream: u32,
    pub(super) bytes: Bytes,
    /// Bytes that count for windows and carry nothing.
    pub(super) padding: usize,
    /// Nothing follows on the stream.
    pub(super) end: bool,
}

impl Data {
    /// What windows count of it.
    pub(super) fn counted(&self) -> usize {
        self.bytes.len() + self.padding
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Data),
    /// Any other frame, with its head.
    Other(BytesMut),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Head {
        got: usize,
        bytes: [u8; HEAD],
    },
    /// Before the length of the padding; the frame has `left` bytes.
    PadLength {
        stream: u32,
        left: usize,
        end: bool,
    },
    Data {
        stream: u32,
        left: usize,
        padding: usize,
        end: bool,
    },
    Padding {
        stream: u32,
        left: usize,
        padding: usize,
        end: bool,
    },
    Other {
        left: usize,
    },
}

const BEGIN: State = State::Head { got: 0, bytes: [0; HEAD] };

/// Cuts, whatever the pieces in which the bytes come.
#[derive(Debug)]
pub(super) struct Cutter {
    largest: usize,
    state: State,
    other: BytesMut,
    /// A block of headers is not over: nothing else may come.
    in_headers: bool,
}

impl Cutter {
    /// `largest`: what a frame may hold, as the peer was told.
    pub(super) fn new(largest: u32) -> Self {
        Self { largest: largest as usize, state: BEGIN, other: BytesMut::new(), in_headers: false }
    }

    /// Takes the next piece from `input`; none when that is used up.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Reason> {
        loop {
            match self.state {
                // Frames without content end where their heads do.
                State::Data { left: 0, padding: 0, stream, end } => {
                    self.state = BEGIN;
                    return Ok(Some(Piece::Data(Data { stream, bytes: Bytes::new(), padding: 0, end })));
                }
                State::Data { left: 0, padding, stream, end } => {
                    self.state = State::Padding { stream, left: padding - 1, padding, end };
                }
                State::Padding { stream, left: 0, padding, end } => {
                    self.state = BEGIN;
                    return Ok(Some(Piece::Data(Data { stream, bytes: Bytes::new(), padding, end })));
                }
                State::Other { left: 0 } => {
                    self.state = BEGIN;
                    return Ok(Some(Piece::Other(self.other.split())));
                }
                _ if input.is_empty() => return Ok(None),
                State::Head { got, mut bytes } => {
                    let take = input.len().min(HEAD - got);
                    input.split_to(take).copy_to_slice(&mut bytes[got..got + take]);
                    let got = got + take;
                    self.state = if got < HEAD { State::Head { got, bytes } } else { self.begin(bytes)? };
                }
                State::PadLength { stream, left, end } => {
                    let padding = usize::from(input.get_u8()) + 1;
                    let left = left.checked_sub(padding).ok_or(Reason::PROTOCOL_ERROR)?;
                    self.state = State::Data { stream, left, padding, end };
                }
                State::Data { stream, left, padding, end } => {
                    let bytes = input.split_to(input.len().min(left));
                    let left = left - bytes.len();
                    let last = left == 0 && padding == 0;
                    self.state = if last { BEGIN } else { State::Data { stream, left, padding, end } };
                    return Ok(Some(Piece::Data(Data { stream, bytes, padding: 0, end: end && last })));
                }
                State::Padding { stream, left, padding, end } => {
                    let skipped = input.len().min(left);
                    input.advance(skipped);
                    self.state = State::Padding { stream, left: left - skipped, padding, end };
                }
                State::Other { left } => {
                    let taken = input.split_to(input.len().min(left));
                    self.other.extend_from_slice(&taken);
                    self.state = State::Other { left: left - taken.len() };
                }
            }
        }
    }

    fn begin(&mut self, head: [u8; HEAD]) -> Result<State, Reason> {
        let [a, b, c, kind, flags, d, e, f, g] = head;
        let left = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit of a stream's number means nothing.
        let stream = u32::from_be_bytes([d & 0x7f, e, f, g]);
        if left > self.largest {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if self.in_headers != (kind == CONTINUATION) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if kind == HEADERS || kind == CONTINUATION {
            self.in_headers = flags & END_HEADERS == 0;
        }
        if kind != DATA {
            self.other.extend_from_slice(&head);
            return Ok(State::Other { left });
        }
        let end = flags & END_STREAM != 0;
        match flags & PADDED {
            _ if stream == 0 => Err(Reason::PROTOCOL_ERROR),
            0 => Ok(State::Data { stream, left, padding: 0, end }),
            _ if left == 0 => Err(Reason::FRAME_SIZE_ERROR),
            _ => Ok(State::PadLength { stream, left, end }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: u32 = 16_384;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = data_head(stream, payload.len(), false).to_vec();
        (frame[3], frame[4]) = (kind, flags);
        frame.extend_from_slice(payload);
        frame
    }

    /// All pieces, those of one frame's data put together.
    fn cut(input: &[u8], size: usize) -> Result<Vec<Piece>, Reason> {
        let mut cutter = Cutter::new(LARGEST);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut whole = true;
        for chunk in input.chunks(size) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(piece) = cutter.next(&mut chunk)? {
                match (pieces.last_mut(), piece) {
                    (Some(Piece::Data(last)), Piece::Data(data)) if !whole => {
                        last.bytes = [&last.bytes[..], &data.bytes].concat().into();
                        (last.padding, last.end) = (data.padding, data.end);
                    }
                    (_, piece) => pieces.push(piece),
                }
                whole = matches!(cutter.state, State::Head { got: 0, .. });
            }
        }
        Ok(pieces)
    }

    fn data(stream: u32, bytes: &'static [u8], padding: usize, end: bool) -> Piece {
        Piece::Data(Data { stream, bytes: Bytes::from_static(bytes), padding, end })
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_come() {
        let ping = frame(6, 0, 0, b"12345678");
        let headers = frame(HEADERS, 0, 3, b"block");
        let more = frame(CONTINUATION, END_HEADERS, 3, b"");
        let input = [
            &frame(DATA, 0, 1, b"hello")[..],
            &ping,
            &frame(DATA, PADDED, 1, b"\x03worldpad"),
            &headers,
            &more,
            &frame(DATA, END_STREAM, 3, b""),
            &frame(DATA, END_STREAM | PADDED, 1, b"\x00"),
        ]
        .concat();
        let wanted = [
            data(1, b"hello", 0, false),
            Piece::Other(ping[..].into()),
            data(1, b"world", 4, false),
            Piece::Other(headers[..].into()),
            Piece::Other(more[..].into()),
            data(3, b"", 0, true),
            data(1, b"", 1, true),
        ];
        for size in [1, 2, 7, 9, 10, input.len()] {
            assert_eq!(cut(&input, size).unwrap(), wanted, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_frame_ends_the_connection() {
        for (name, input, reason) in [
            ("too long", frame(DATA, 0, 1, &[0; 16_385]), Reason::FRAME_SIZE_ERROR),
            ("data of no stream", frame(DATA, 0, 0, b"x"), Reason::PROTOCOL_ERROR),
            ("more padding than frame", frame(DATA, PADDED, 1, b"\x02x"), Reason::PROTOCOL_ERROR),
            ("padding without a length", frame(DATA, PADDED, 1, b""), Reason::FRAME_SIZE_ERROR),
            ("a continuation of nothing", frame(CONTINUATION, 0, 1, b""), Reason::PROTOCOL_ERROR),
            (
                "data among headers",
                [frame(HEADERS, 0, 1, b""), frame(DATA, 0, 1, b"x")].concat(),
                Reason::PROTOCOL_ERROR,
            ),
        ] {
            assert_eq!(cut(&input, input.len()), Err(reason), "{name}");
        }
    }
}
