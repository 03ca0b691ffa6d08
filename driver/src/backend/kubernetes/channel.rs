//! A byte stream over the channels of a Kubernetes WebSocket (`v4.channel.k8s.io`, `v5.channel.k8s.io`).
//!
//! Every message is one channel byte and data. What is written becomes a message when the stream is flushed; what is written
//! while one is under way becomes the next, so that messages grow with the pressure: every message costs the kubelet about the
//! same, whatever its size.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Interval;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// The largest message that is sent, without its channel byte: what a flush brings, encrypted, and some more.
const MESSAGE_MAX: usize = 192 * 1024;
/// Messages are written one behind the other into blocks of memory of that size; one that does not begin with this much room
/// begins a new block.
const ROOM: usize = 16 * 1024;
/// API servers and load balancers cut streams on which nothing happens, some after a minute.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How much of a command's stderr is kept to explain its end.
const STDERR_MAX: usize = 4096;

#[cfg(test)]
mod tests;

/// Which protocol the channels speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// stdin, stdout, stderr and status of a command.
    Exec {
        /// v5: the peer understands that stdin was closed.
        close_signal: bool,
    },
    /// Data and error of one port; both begin with the port's number.
    PortForward,
}

impl Wire {
    const STDIN: u8 = 0;
    const STDOUT: u8 = 1;
    const STDERR: u8 = 2;
    const STATUS: u8 = 3;
    const PORT_DATA: u8 = 0;
    const PORT_ERROR: u8 = 1;
    const CLOSE: u8 = 255;

    fn outgoing(self) -> u8 {
        match self {
            Self::Exec { .. } => Self::STDIN,
            Self::PortForward => Self::PORT_DATA,
        }
    }
}

/// What carries the messages.
pub(super) trait WebSocket:
    Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + Unpin + 'static
{
}

impl<S> WebSocket for S where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + Unpin + 'static
{
}

/// The stream. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct ChannelStream<S> {
    socket: S,
    wire: Wire,
    /// Written and not yet sent, behind the channel's byte.
    message: BytesMut,
    /// An end of the input that is to be told.
    close: bool,
    ping: bool,
    /// A message is under way: no other one is given to the socket before it has left, which would hold any number of them.
    sending: bool,
    pings: Interval,
    incoming: Incoming,
    /// Received and not yet read.
    data: Bytes,
    /// The last word: nothing more is received, for this reason if it is a failure.
    ended: Option<Option<String>>,
}

impl<S> ChannelStream<S>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
{
    pub(super) fn open(socket: S, wire: Wire) -> Self {
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.reset();
        let incoming = Incoming { wire, stderr: Vec::new(), ports: [false; 2], end: None };
        let (message, data) = Default::default();
        Self { socket, wire, message, close: false, ping: false, sending: false, pings, incoming, data, ended: None }
    }

    /// Waits for the first data; an error when the stream ends before.
    pub(super) async fn first_data(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_data(cx)).await?;
        if self.data.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Receives until there is data; ready without any at a regular end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.data.is_empty() {
            if let Some(failure) = &self.ended {
                return Poll::Ready(failure.as_ref().map_or(Ok(()), |text| Err(aborted(text))));
            }
            if (self.sending || self.ping)
                && let Poll::Ready(Err(error)) = self.poll_send(cx)
            {
                return Poll::Ready(Err(error));
            }
            match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => match self.incoming.take(message) {
                    Taken::Data(data) => self.data = data,
                    Taken::Nothing => {}
                    Taken::End => self.ended = Some(self.incoming.verdict()),
                },
                Poll::Ready(Some(Err(error))) => self.broke(&error),
                Poll::Ready(None) => self.ended = Some(self.incoming.verdict()),
                Poll::Pending if self.pings.poll_tick(cx).is_ready() => self.ping = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all there is to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(failure) = &self.ended {
                let gone = || io::ErrorKind::BrokenPipe.into();
                return Poll::Ready(Err(failure.as_ref().map_or_else(gone, |text| aborted(text))));
            }
            let sent = match self.sending {
                true => ready!(Pin::new(&mut self.socket).poll_flush(cx)).map(|()| false),
                false => match ready!(Pin::new(&mut self.socket).poll_ready(cx)) {
                    Ok(()) => match self.next_message() {
                        Some(message) => Pin::new(&mut self.socket).start_send(message).map(|()| true),
                        None => return Poll::Ready(Ok(())),
                    },
                    Err(error) => Err(error),
                },
            };
            match sent {
                Ok(sending) => self.sending = sending,
                Err(error) => self.broke(&error),
            }
        }
    }

    fn next_message(&mut self) -> Option<Message> {
        if !self.message.is_empty() {
            return Some(Message::Binary(self.message.split().freeze()));
        }
        if std::mem::take(&mut self.close) {
            return Some(Message::Binary(Bytes::from_static(&[Wire::CLOSE, Wire::STDIN])));
        }
        std::mem::take(&mut self.ping).then(|| Message::Ping(Bytes::new()))
    }

    fn broke(&mut self, error: &WsError) {
        let text = self.incoming.verdict().unwrap_or_else(|| format!("the stream broke: {error}"));
        self.ended = Some(Some(text));
    }

    /// Takes what there is room for in the message.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        if self.message.is_empty() {
            if self.message.capacity() < ROOM {
                self.message.reserve(MESSAGE_MAX + 1);
            }
            self.message.put_u8(self.wire.outgoing());
        }
        let taken = bytes.len().min(self.room());
        self.message.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn room(&self) -> usize {
        self.message.capacity().min(MESSAGE_MAX + 1) - self.message.len()
    }

    /// Ready when there is room in the message.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.message.is_empty() || self.room() > 0;
        if room && self.ended.is_none() { Poll::Ready(Ok(())) } else { self.poll_send(cx) }
    }
}

fn aborted(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, text)
}

impl<S> AsyncRead for ChannelStream<S>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_data(cx))?;
        let take = this.data.len().min(out.remaining());
        out.put_slice(&this.data.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<S> AsyncWrite for ChannelStream<S>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        Poll::Ready(Ok(this.gather(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
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
        if this.wire == (Wire::Exec { close_signal: true }) {
            // Once.
            this.wire = Wire::Exec { close_signal: false };
            this.close = true;
        }
        this.poll_send(cx)
    }
}

/// What a message was.
enum Taken {
    Data(Bytes),
    Nothing,
    End,
}

/// The receiving side.
#[derive(Debug)]
struct Incoming {
    wire: Wire,
    stderr: Vec<u8>,
    /// Whether the port's number was seen, on the data and on the error channel.
    ports: [bool; 2],
    /// What the status or error channel said.
    end: Option<Result<(), String>>,
}

impl Incoming {
    fn take(&mut self, message: Message) -> Taken {
        let payload = match message {
            Message::Binary(payload) => payload,
            Message::Text(text) => text.into(),
            Message::Close(frame) => {
                // Some servers explain themselves here alone.
                let failed = frame.filter(|frame| frame.code != CloseCode::Normal && !frame.reason.is_empty());
                self.end = failed.map(|frame| Err(frame.reason.to_string()));
                return Taken::End;
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Taken::Nothing,
        };
        if payload.is_empty() {
            return Taken::Nothing;
        }
        let data = payload.slice(1..);
        match (self.wire, payload[0]) {
            (Wire::Exec { .. }, Wire::STDOUT) => Taken::Data(data),
            (Wire::Exec { .. }, Wire::STDERR) => {
                self.keep_stderr(&data);
                Taken::Nothing
            }
            (Wire::Exec { .. }, Wire::STATUS) => {
                self.end = Some(exit_status(&data));
                Taken::End
            }
            (Wire::PortForward, Wire::PORT_DATA) => Taken::Data(self.without_port(0, data)),
            (Wire::PortForward, Wire::PORT_ERROR) => {
                let data = self.without_port(1, data);
                if data.is_empty() {
                    return Taken::Nothing;
                }
                self.end = Some(Err(String::from_utf8_lossy(&data).trim().to_owned()));
                Taken::End
            }
            _ => Taken::Nothing,
        }
    }

    /// The first two bytes of each channel repeat the port's number.
    fn without_port(&mut self, channel: usize, data: Bytes) -> Bytes {
        if std::mem::replace(&mut self.ports[channel], true) || data.len() < 2 { data } else { data.slice(2..) }
    }

    fn keep_stderr(&mut self, data: &[u8]) {
        self.stderr.extend_from_slice(data);
        let excess = self.stderr.len().saturating_sub(STDERR_MAX);
        self.stderr.drain(..excess);
    }

    /// What to say when the stream ends here: nothing after a regular end.
    fn verdict(&self) -> Option<String> {
        let stderr = String::from_utf8_lossy(&self.stderr).trim().to_owned();
        match (&self.end, self.wire) {
            (Some(Ok(())), _) | (None, Wire::PortForward) => None,
            (Some(Err(text)), _) if stderr.is_empty() => Some(text.clone()),
            (Some(Err(_)), _) => Some(stderr),
            (None, Wire::Exec { .. }) if stderr.is_empty() => {
                Some("the connection ended before the command".to_owned())
            }
            (None, Wire::Exec { .. }) => Some(stderr),
        }
    }
}

/// The `metav1.Status` at the end of a command.
fn exit_status(data: &[u8]) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Status {
        status: Option<String>,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Status>(data) {
        Ok(Status { status: Some(status), .. }) if status == "Success" => Ok(()),
        Ok(Status { message, .. }) if !message.is_empty() => Err(message),
        _ => Err(String::from_utf8_lossy(data).into_owned()),
    }
}
