//! HTTP/2 and gRPC as they are used on every hop: window sizes, message framing, statuses.

use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};

mod batch;

pub(crate) use batch::{Client, Server};

/// One stream carries a whole build context, nested in the Session call: 64 KiB, the protocol's default, would cap it at
/// 64 KiB for each round trip.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;

/// A bake runs many builds on one connection; none of them may starve the others' small calls.
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;

/// BuildKit sends files in pieces of 32 KiB; the protocol's default of 16 KiB would make two frames of each.
pub(crate) const FRAME: u32 = 256 << 10;

/// What one stream may hold of bytes that the peer has not taken yet.
const SEND_BUFFER: usize = 1 << 20;

/// grpc-go's own default. BuildKit puts whole Dockerfiles into `grpc-status-details-bin` and long include lists into
/// request headers; a lower limit resets such streams, and what limits 16 KiB makes of them is a hang (grpc/grpc-rust#1834).
pub(crate) const HEADER_LIST: u32 = 16 << 20;

/// Clients of a private socket are trusted to open as many streams as a bake needs, and to cancel them at will.
pub(crate) const STREAMS: u32 = 100_000;

/// Many frames of 16 KiB, which is the largest that BuildKit sends and takes, and less than a unix socket holds.
const WRITE: usize = 128 << 10;

/// What a unix socket holds of a client's writes; `h2` reads 8 KiB at a time, which is half a frame of BuildKit's.
const READ: usize = 192 << 10;

/// A socket that keeps what is written until it is flushed, and is read in large pieces.
pub(crate) type Buffered<S> = BufReader<BufWriter<S>>;

pub(crate) fn buffered<S: AsyncRead + AsyncWrite>(stream: S) -> Buffered<S> {
    BufReader::with_capacity(READ, BufWriter::with_capacity(WRITE, stream))
}

/// A socket that keeps by itself what is written until it is flushed, read in large pieces.
pub(crate) fn buffered_in<S: AsyncRead + AsyncWrite>(stream: S) -> Buffered<S> {
    // Without room it hands everything on.
    BufReader::with_capacity(READ, BufWriter::with_capacity(0, stream))
}

/// Greets as the server, on a client's connection. `stream` has to keep what is written until it is flushed.
pub(crate) async fn serve<T: AsyncRead + AsyncWrite + Unpin>(stream: T) -> Result<Server<T>, h2::Error> {
    Server::greet(&server(), stream).await
}

/// Greets as the client, on a pod's connection. `stream` as for [`serve`].
pub(crate) async fn connect<T>(stream: T) -> Result<(SendRequest<Bytes>, Client<T>), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    Client::greet(&client(), stream).await
}

fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_concurrent_reset_streams(1_000);
    builder
}

fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .enable_push(false)
        .max_concurrent_reset_streams(1_000);
    builder
}

/// Names the build that a call of the gateway belongs to (`solver/llbsolver/provenance/buildid`, v0.33).
pub(crate) const BUILD: &str = "buildkit-controlapi-buildid";

/// gRPC's status codes, as far as they are made or read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
}

/// A status that the daemon itself gives to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// As trailers after a response that has begun.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if !self.message.is_empty() {
            trailers.insert("grpc-message", percent_encoded(&self.message));
        }
        trailers
    }

    /// As a whole response without a message ("Trailers-Only" in gRPC's specification).
    pub(crate) fn response(&self) -> Response<()> {
        let mut response = headers();
        response.headers_mut().extend(self.trailers());
        response
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

/// The headers with which a gRPC response begins.
pub(crate) fn headers() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// One uncompressed gRPC message.
pub(crate) fn message(payload: &impl prost::Message) -> Bytes {
    let payload = payload.encode_to_vec();
    let mut framed = BytesMut::with_capacity(payload.len() + 5);
    framed.extend_from_slice(&prefix(payload.len()));
    framed.extend_from_slice(&payload);
    framed.freeze()
}

/// What stands before an uncompressed message of that many bytes.
pub(crate) fn prefix(length: usize) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

/// How long the message at the beginning of these bytes is with its framing, when that has come.
pub(crate) fn framed_length(bytes: &[u8]) -> Option<usize> {
    let [_, length @ ..] = bytes.first_chunk::<5>()?;
    Some(5 + u32::from_be_bytes(*length) as usize)
}

/// What one uncompressed message carries; `None` when the bytes are no such message.
pub(crate) fn carried(framed: &[u8]) -> Option<&[u8]> {
    let whole = framed.first() == Some(&0) && framed_length(framed) == Some(framed.len());
    whole.then(|| &framed[5..])
}

/// The text that a peer put into `grpc-message`.
pub(crate) fn message_text(trailers: &HeaderMap) -> Cow<'_, str> {
    let Some(value) = trailers.get("grpc-message") else { return Cow::Borrowed("") };
    let bytes = value.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let hex = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                text.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = tail;
            }
            _ => {
                text.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}

/// The status code in trailers; `None` when there is none or it is no number.
pub(crate) fn code(trailers: &HeaderMap) -> Option<u16> {
    trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// The status of an answer that has nothing else, as trailers: other headers have gone out before.
pub(crate) fn only_status(headers: &HeaderMap) -> HeaderMap {
    let of_status = headers.iter().filter(|(name, _)| name.as_str().starts_with("grpc-"));
    of_status.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Any text as a header may hold it.
pub(crate) fn percent_encoded(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    // Only printable ASCII is left, which every header value may hold.
    HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_message_survives_the_header() {
        for text in ["", "plain", "100% of it", "pod „kube0“\nis gone", "tab\tand ~"] {
            let trailers = Status::new(Code::Unavailable, text).trailers();
            assert_eq!(code(&trailers), Some(14));
            assert_eq!(message_text(&trailers), text);
        }
    }

    #[test]
    fn a_message_with_a_stray_percent_is_taken_as_it_is() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-message", HeaderValue::from_static("50%, %4 and %zz"));
        assert_eq!(message_text(&trailers), "50%, %4 and %zz");
    }

    #[test]
    fn only_the_status_is_left_of_an_answer_without_a_message() {
        let head = Status::new(Code::NotFound, "no such content").response();
        let left = only_status(head.headers());
        assert_eq!(left.len(), 2);
        assert_eq!((code(&left), &*message_text(&left)), (Some(5), "no such content"));
    }

    #[test]
    fn only_one_whole_uncompressed_message_carries_something() {
        for (framed, wanted) in [
            (&[0, 0, 0, 0, 0][..], Some(&[][..])),
            (&[0, 0, 0, 0, 2, 7, 8], Some(&[7, 8])),
            (&[1, 0, 0, 0, 2, 7, 8], None),
            (&[0, 0, 0, 0, 3, 7, 8], None),
            (&[0, 0, 0, 0, 1, 7, 8], None),
            (&[0, 0, 0], None),
            (&[], None),
        ] {
            assert_eq!(carried(framed), wanted, "{framed:?}");
        }
    }

    #[test]
    fn a_message_is_framed_with_its_length() {
        let framed = message(&buildfleet_proto::buildkit::StatusRequest { r#ref: "abc".into() });
        assert_eq!(&framed[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'b', b'c']);
    }
}
