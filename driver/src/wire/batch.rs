//! HTTP/2 connections that write once for all the frames that they have to send.
//!
//! `h2` flushes after every frame, and frames to BuildKit are 16 KiB at most: one by one, each of them costs a system call
//! here and wakes the peer. What it writes is kept instead until the connection has nothing more to say for now.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that is flushed by whoever polls the connection on it, and never by the connection.
struct Kept<T>(Arc<Mutex<Stream<T>>>);

struct Stream<T> {
    bytes: T,
    /// Why a flush failed, until the connection has heard of it.
    failure: Option<io::Error>,
}

impl<T: AsyncWrite + Unpin> Kept<T> {
    fn new(bytes: T) -> Self {
        Self(Arc::new(Mutex::new(Stream { bytes, failure: None })))
    }

    fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn flush(&self, cx: &mut Context<'_>) {
        let mut stream = self.locked();
        if let Poll::Ready(Err(error)) = Pin::new(&mut stream.bytes).poll_flush(cx) {
            stream.failure = Some(error);
            cx.waker().wake_by_ref();
        }
    }
}

impl<T> Kept<T> {
    /// Nobody else ever waits for it: all who share it are polled by one task.
    fn locked(&self) -> MutexGuard<'_, Stream<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Kept<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.locked().bytes).poll_read(cx, out)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Kept<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.locked().bytes).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.locked().bytes).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.locked().bytes.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.locked().failure.take().map_or(Ok(()), Err))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.locked().bytes).poll_shutdown(cx)
    }
}

/// The server's side of a connection.
pub(crate) struct Server<T> {
    connection: h2::server::Connection<Kept<T>, Bytes>,
    stream: Kept<T>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Server<T> {
    pub(super) async fn greet(settings: &h2::server::Builder, bytes: T) -> Result<Self, h2::Error> {
        let stream = Kept::new(bytes);
        let mut handshake = pin!(settings.handshake(stream.share()));
        let connection = poll_fn(|cx| {
            let polled = handshake.as_mut().poll(cx);
            stream.flush(cx);
            polled
        });
        let connection = connection.await?;
        Ok(Self { connection, stream })
    }

    /// The next call. The bytes of the calls that run move only while this is awaited.
    pub(crate) async fn accept(&mut self) -> Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>> {
        poll_fn(|cx| {
            let polled = self.connection.poll_accept(cx);
            self.stream.flush(cx);
            polled
        })
        .await
    }

    /// Takes no new calls; [`Server::accept`] returns `None` once those that run have ended.
    pub(crate) fn graceful_shutdown(&mut self) {
        self.connection.graceful_shutdown();
    }
}

/// The client's side of a connection: moves its bytes while it is polled, until it ends.
pub(crate) struct Client<T> {
    connection: h2::client::Connection<Kept<T>, Bytes>,
    stream: Kept<T>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    /// The greeting leaves when the connection is polled for the first time.
    pub(super) async fn greet(
        settings: &h2::client::Builder,
        bytes: T,
    ) -> Result<(SendRequest<Bytes>, Self), h2::Error> {
        let stream = Kept::new(bytes);
        let (requests, connection) = settings.handshake(stream.share()).await?;
        Ok((requests, Self { connection, stream }))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Client<T> {
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.connection).poll(cx);
        self.stream.flush(cx);
        polled
    }
}

impl<T> fmt::Debug for Server<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
