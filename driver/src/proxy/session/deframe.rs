//! Bytes of a gRPC stream of `BytesMessage` into the bytes that they carry, without waiting for whole messages.

use bytes::{Buf, Bytes};

/// Where the reader stands between two pieces of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In gRPC's prefix: a flag and four bytes of length.
    Prefix { got: usize, bytes: [u8; 5] },
    /// Inside a message of which `left` bytes are to come, before the next field's tag.
    Tag { left: usize },
    /// In the length of the data field.
    Length { left: usize, value: usize, shift: u32 },
    /// In the data, of which `data` bytes are to come.
    Data { left: usize, data: usize },
}

/// Takes the framing off, piece by piece.
#[derive(Debug)]
pub(super) struct Deframer {
    state: State,
}

/// Why a stream is no stream of `BytesMessage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    #[error("a session message is compressed")]
    Compressed,
    #[error("a session message has a field with tag {0}")]
    Field(u8),
    #[error("a session message is longer inside than outside")]
    Overrun,
}

/// The data field: number 1, length-delimited.
const DATA: u8 = 0x0a;

const PREFIX: State = State::Prefix { got: 0, bytes: [0; 5] };

impl Deframer {
    pub(super) fn new() -> Self {
        Self { state: PREFIX }
    }

    /// Whether the input so far ends between two messages.
    pub(super) fn is_between(&self) -> bool {
        self.state == PREFIX
    }

    /// Takes from `input` up to and with the next piece of data; an empty piece means that the input is used up.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Bytes, FramingError> {
        while !input.is_empty() {
            self.state = match self.state {
                State::Prefix { got, mut bytes } => {
                    let take = input.len().min(5 - got);
                    input.split_to(take).copy_to_slice(&mut bytes[got..got + take]);
                    let [flag, length @ ..] = bytes;
                    if got + take < 5 {
                        State::Prefix { got: got + take, bytes }
                    } else if flag != 0 {
                        return Err(FramingError::Compressed);
                    } else {
                        between_fields(u32::from_be_bytes(length) as usize)
                    }
                }
                State::Tag { left } => match input.get_u8() {
                    DATA => State::Length { left: left - 1, value: 0, shift: 0 },
                    other => return Err(FramingError::Field(other)),
                },
                State::Length { left, value, shift } => {
                    if left == 0 || shift > 28 {
                        return Err(FramingError::Overrun);
                    }
                    let byte = input.get_u8();
                    let value = value | usize::from(byte & 0x7f) << shift;
                    match byte & 0x80 {
                        0 if value > left - 1 => return Err(FramingError::Overrun),
                        0 if value == 0 => between_fields(left - 1),
                        0 => State::Data { left: left - 1, data: value },
                        _ => State::Length { left: left - 1, value, shift: shift + 7 },
                    }
                }
                State::Data { left, data } => {
                    let piece = input.split_to(input.len().min(data));
                    let (left, data) = (left - piece.len(), data - piece.len());
                    self.state = if data == 0 { between_fields(left) } else { State::Data { left, data } };
                    return Ok(piece);
                }
            };
        }
        Ok(Bytes::new())
    }
}

fn between_fields(left: usize) -> State {
    if left == 0 { PREFIX } else { State::Tag { left } }
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::buildkit::BytesMessage;

    use super::*;
    use crate::wire;

    fn framed(payloads: &[&[u8]]) -> Vec<u8> {
        payloads.iter().flat_map(|data| wire::message(&BytesMessage { data: data.to_vec() }).to_vec()).collect()
    }

    fn deframe(pieces: impl Iterator<Item = Bytes>) -> Result<(Vec<u8>, bool), FramingError> {
        let mut deframer = Deframer::new();
        let mut data = Vec::new();
        for mut input in pieces {
            while !input.is_empty() {
                data.extend_from_slice(&deframer.next(&mut input)?);
            }
        }
        Ok((data, deframer.is_between()))
    }

    #[test]
    fn the_data_comes_out_however_the_input_is_cut() {
        let long = vec![7_u8; 70_000];
        let input = framed(&[b"PRI * HTTP/2.0", b"", b"x", &long, b"end"]);
        let mut wanted = b"PRI * HTTP/2.0x".to_vec();
        wanted.extend_from_slice(&long);
        wanted.extend_from_slice(b"end");
        for size in [1, 2, 3, 5, 7, 4096, input.len()] {
            let pieces = input.chunks(size).map(Bytes::copy_from_slice);
            assert_eq!(deframe(pieces), Ok((wanted.clone(), true)), "pieces of {size}");
        }
    }

    #[test]
    fn a_cut_message_is_known_to_be_cut() {
        let input = framed(&[b"abc"]);
        for end in 1..input.len() {
            let (_, between) = deframe(std::iter::once(Bytes::copy_from_slice(&input[..end]))).unwrap();
            assert!(!between, "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_bytes_message_is_refused() {
        for (input, error) in [
            (&[1, 0, 0, 0, 2, 0x0a, 0][..], FramingError::Compressed),
            (&[0, 0, 0, 0, 2, 0x12, 0], FramingError::Field(0x12)),
            (&[0, 0, 0, 0, 2, 0x0a, 1], FramingError::Overrun),
            (&[0, 0, 0, 0, 1, 0x0a, 0], FramingError::Overrun),
            (&[0, 0, 0, 0, 9, 0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1], FramingError::Overrun),
        ] {
            assert_eq!(deframe(std::iter::once(Bytes::copy_from_slice(input))), Err(error), "{input:?}");
        }
    }

    #[test]
    fn no_input_makes_it_panic() {
        let mut seed = 1_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        let valid = framed(&[b"hello", b"world"]);
        for _ in 0..20_000 {
            let mut input = valid.clone();
            for _ in 0..1 + random() % 3 {
                let at = usize::from(random()) % input.len();
                input[at] = random();
            }
            let size = 1 + usize::from(random() % 9);
            let _ = deframe(input.chunks(size).map(Bytes::copy_from_slice));
        }
    }
}
