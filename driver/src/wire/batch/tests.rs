//! Tests of what leaves together, with peers that count.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Response;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::wire;

/// Counts what reaches a socket, and refuses it from some number on.
struct Counted {
    bytes: DuplexStream,
    writes: Arc<AtomicUsize>,
    most: usize,
}

impl Counted {
    fn new(bytes: DuplexStream, most: usize) -> (Self, Arc<AtomicUsize>) {
        let writes = Arc::default();
        (Self { bytes, writes: Arc::clone(&writes), most }, writes)
    }

    fn count(&self) -> io::Result<()> {
        if self.writes.fetch_add(1, Ordering::Relaxed) < self.most {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, out)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.count()?;
        Pin::new(&mut self.bytes).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

/// Large enough for all that a test writes: no write is cut because a peer is slow.
const PIPE: usize = 4 << 20;
const WINDOW: u32 = 4 << 20;
const BODY: usize = 1 << 20;

async fn length(mut body: RecvStream) -> usize {
    let mut length = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        assert!(chunk.iter().all(|byte| *byte == 7));
        length += chunk.len();
    }
    length
}

/// The body alone is 64 frames.
fn few(writes: usize) {
    assert!(writes <= 20, "{writes} writes");
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("it hangs")
}

/// A call with a large body, from our side; the peer takes frames of 16 KiB, as BuildKit does.
#[tokio::test]
async fn what_a_client_sends_leaves_in_few_writes() {
    let (near, far) = duplex(PIPE);
    let peer = tokio::spawn(async move {
        let mut peer = h2::server::Builder::new();
        let peer = peer.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let mut peer = peer.handshake::<_, Bytes>(far).await.unwrap();
        let (request, mut respond) = peer.accept().await.unwrap().unwrap();
        let reading = tokio::spawn(async move {
            let length = length(request.into_body()).await;
            respond.send_response(Response::new(()), true).unwrap();
            length
        });
        assert!(peer.accept().await.is_none());
        reading.await.unwrap()
    });
    let (bytes, writes) = Counted::new(near, usize::MAX);
    let (requests, client) = wire::connect(wire::buffered(bytes)).await.unwrap();
    let moving = tokio::spawn(client);
    let mut requests = bounded(requests.ready()).await.unwrap();
    let (answer, mut body) = requests.send_request(Request::new(()), false).unwrap();
    body.send_data(vec![7; BODY].into(), true).unwrap();
    bounded(answer).await.unwrap();
    drop((requests, body));
    bounded(moving).await.unwrap().unwrap();
    assert_eq!(bounded(peer).await.unwrap(), BODY);
    few(writes.load(Ordering::Relaxed));
}

#[tokio::test]
async fn what_a_server_answers_leaves_in_few_writes() {
    let (near, far) = duplex(PIPE);
    let (bytes, writes) = Counted::new(far, usize::MAX);
    let serving = tokio::spawn(async move {
        let mut server = wire::serve(wire::buffered(bytes)).await.unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data(vec![7; BODY].into(), true).unwrap();
        assert!(server.accept().await.is_none());
    });
    let mut peer = h2::client::Builder::new();
    let peer = peer.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (mut requests, connection) = peer.handshake::<_, Bytes>(near).await.unwrap();
    let moving = tokio::spawn(connection);
    let (answer, _) = requests.send_request(Request::new(()), true).unwrap();
    let answer = bounded(answer).await.unwrap();
    assert_eq!(bounded(length(answer.into_body())).await, BODY);
    drop(requests);
    bounded(moving).await.unwrap().unwrap();
    bounded(serving).await.unwrap();
    few(writes.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_server_greets_before_its_client_does() {
    let (mut near, far) = duplex(PIPE);
    let serving = tokio::spawn(wire::serve(wire::buffered(far)));
    let mut head = [0; 9];
    bounded(near.read_exact(&mut head)).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    serving.abort();
}

#[tokio::test]
async fn a_connection_hears_of_a_flush_that_failed() {
    let (near, _far) = duplex(PIPE);
    let (bytes, _) = Counted::new(near, 0);
    let (_requests, client) = wire::connect(wire::buffered(bytes)).await.unwrap();
    let error = bounded(client).await.unwrap_err();
    assert_eq!(error.get_io().map(io::Error::kind), Some(io::ErrorKind::BrokenPipe), "{error}");
}
