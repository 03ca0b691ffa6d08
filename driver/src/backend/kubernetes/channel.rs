//! A byte stream over the channels of a Kubernetes WebSocket (`v4.channel.k8s.io`, `v5.channel.k8s.io`).
//!
//! Every message is one channel byte and data. A task moves the bytes: what is written while a message is under way
//! becomes the next one, so that messages grow with the pressure (every message costs the API server and the kubelet about
//! the same, whatever its size), and a small write on an idle stream leaves at once.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::task::AbortOnDropHandle;

/// The largest message that is sent, without its channel byte.
const MESSAGE_MAX: usize = 128 * 1024;
/// What may wait on either side of the task.
const BUFFER: usize = 256 * 1024;
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

/// The stream. Dropping it ends the task and the connection.
#[derive(Debug)]
pub(super) struct ChannelStream {
    bytes: DuplexStream,
    /// Why the peer ended it, when that was a failure.
    failure: Arc<OnceLock<String>>,
    _task: AbortOnDropHandle<()>,
}

/// Resolves when the first data has come, or with an error when the stream ended before.
pub(super) struct FirstData(oneshot::Receiver<()>, Arc<OnceLock<String>>);

impl FirstData {
    pub(super) async fn arrived(self) -> io::Result<()> {
        match self.0.await {
            Ok(()) => Ok(()),
            Err(_) => Err(ended(&self.1).unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn ended(failure: &OnceLock<String>) -> Option<io::Error> {
    failure.get().map(|text| io::Error::new(io::ErrorKind::ConnectionAborted, text.clone()))
}

impl ChannelStream {
    pub(super) fn open<S>(socket: S, wire: Wire) -> (Self, FirstData)
    where
        S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + 'static,
    {
        let (bytes, inner) = tokio::io::duplex(BUFFER);
        let failure = Arc::new(OnceLock::new());
        let (first, arrived) = oneshot::channel();
        let task = tokio::spawn(run(socket, wire, inner, Arc::clone(&failure), first));
        let stream = Self { bytes, failure: Arc::clone(&failure), _task: AbortOnDropHandle::new(task) };
        (stream, FirstData(arrived, failure))
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let room = buf.remaining() > 0;
        let polled = Pin::new(&mut self.bytes).poll_read(cx, buf);
        let at_end = matches!(polled, Poll::Ready(Ok(()))) && room && buf.filled().len() == before;
        match ended(&self.failure) {
            Some(error) if at_end => Poll::Ready(Err(error)),
            _ => polled,
        }
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.bytes).poll_write(cx, data);
        match ended(&self.failure) {
            Some(error) if matches!(polled, Poll::Ready(Err(_))) => Poll::Ready(Err(error)),
            _ => polled,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

async fn run<S>(socket: S, wire: Wire, inner: DuplexStream, failure: Arc<OnceLock<String>>, first: oneshot::Sender<()>)
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + 'static,
{
    let (sink, source) = socket.split();
    let (from_us, to_us) = tokio::io::split(inner);
    let mut incoming = Incoming { wire, to_us, first: Some(first), stderr: Vec::new(), ports: [false; 2], end: None };
    let outcome = {
        let receive = incoming.receive(source);
        let send = send(sink, wire, from_us);
        tokio::pin!(receive, send);
        tokio::select! {
            received = &mut receive => received,
            // Only a broken connection ends this side: all that was sent, it waits for the peer.
            Err(error) = &mut send => Err(error),
        }
    };
    let text = match outcome {
        Ok(()) => incoming.verdict(),
        Err(error) => incoming.verdict().or_else(|| Some(format!("the stream broke: {error}"))),
    };
    if let Some(text) = text {
        // The first word stands; nobody else writes it.
        let _ = failure.set(text);
    }
    // `first` goes with `incoming`, after the verdict was set.
}

/// The receiving side.
struct Incoming {
    wire: Wire,
    to_us: WriteHalf<DuplexStream>,
    first: Option<oneshot::Sender<()>>,
    stderr: Vec<u8>,
    /// Whether the port's number was seen, on the data and on the error channel.
    ports: [bool; 2],
    /// What the status or error channel said.
    end: Option<Result<(), String>>,
}

impl Incoming {
    async fn receive<S>(&mut self, mut source: S) -> Result<(), WsError>
    where
        S: Stream<Item = Result<Message, WsError>> + Unpin,
    {
        while let Some(message) = source.next().await {
            let payload = match message? {
                Message::Binary(payload) => payload,
                Message::Text(text) => text.into(),
                Message::Close(frame) => {
                    // Some servers explain themselves here alone.
                    let failed = frame.filter(|frame| frame.code != CloseCode::Normal && !frame.reason.is_empty());
                    self.end = failed.map(|frame| Err(frame.reason.to_string()));
                    break;
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if payload.is_empty() {
                continue;
            }
            let data = payload.slice(1..);
            match self.wire {
                Wire::Exec { .. } => match payload[0] {
                    Wire::STDOUT => self.deliver(&data).await?,
                    Wire::STDERR => self.keep_stderr(&data),
                    Wire::STATUS => {
                        self.end = Some(exit_status(&data));
                        return Ok(());
                    }
                    _ => {}
                },
                Wire::PortForward => match payload[0] {
                    Wire::PORT_DATA => {
                        let data = self.without_port(0, data);
                        self.deliver(&data).await?;
                    }
                    Wire::PORT_ERROR => {
                        let data = self.without_port(1, data);
                        if !data.is_empty() {
                            self.end = Some(Err(String::from_utf8_lossy(&data).trim().to_owned()));
                            return Ok(());
                        }
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// The first two bytes of each channel repeat the port's number.
    fn without_port(&mut self, channel: usize, data: Bytes) -> Bytes {
        if std::mem::replace(&mut self.ports[channel], true) || data.len() < 2 { data } else { data.slice(2..) }
    }

    async fn deliver(&mut self, data: &[u8]) -> Result<(), WsError> {
        if data.is_empty() {
            return Ok(());
        }
        if let Some(first) = self.first.take() {
            // Whoever opened the stream may have stopped waiting.
            let _ = first.send(());
        }
        self.to_us.write_all(data).await?;
        Ok(())
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

/// The sending side: returns an error when the connection broke, and never otherwise.
async fn send<S>(mut sink: S, wire: Wire, mut from_us: ReadHalf<DuplexStream>) -> Result<(), WsError>
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.reset();
    let mut buffer = BytesMut::with_capacity(MESSAGE_MAX + 1);
    buffer.put_u8(wire.outgoing());
    loop {
        tokio::select! {
            read = read_into(&mut from_us, &mut buffer) => {
                if read? == 0 {
                    break;
                }
                // The writer may be in the middle of more: one turn for it makes one message of it.
                tokio::task::yield_now().await;
                fill(&mut from_us, &mut buffer).await?;
                sink.send(Message::Binary(buffer.split().freeze())).await?;
                buffer.reserve(MESSAGE_MAX + 1);
                buffer.put_u8(wire.outgoing());
            }
            _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await?,
        }
    }
    if wire == (Wire::Exec { close_signal: true }) {
        sink.send(Message::Binary(Bytes::from_static(&[Wire::CLOSE, Wire::STDIN]))).await?;
    }
    loop {
        pings.tick().await;
        sink.send(Message::Ping(Bytes::new())).await?;
    }
}

/// Reads into a message that is not full yet.
async fn read_into(from_us: &mut ReadHalf<DuplexStream>, message: &mut BytesMut) -> io::Result<usize> {
    let room = MESSAGE_MAX + 1 - message.len();
    from_us.read_buf(&mut message.limit(room)).await
}

/// Takes what is there already, up to a full message.
async fn fill(from_us: &mut ReadHalf<DuplexStream>, message: &mut BytesMut) -> io::Result<()> {
    while message.len() <= MESSAGE_MAX {
        tokio::select! {
            biased;
            read = read_into(from_us, message) => if read? == 0 { return Ok(()) },
            () = std::future::ready(()) => return Ok(()),
        }
    }
    Ok(())
}
