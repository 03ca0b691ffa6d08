//! What is between a fleet and its pods: it may drop everything, or break a connection.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The way of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Way(Arc<State>);

#[derive(Debug, Default)]
struct State {
    drops: AtomicBool,
    broken: Mutex<Option<io::ErrorKind>>,
    reader: AtomicWaker,
}

impl Way {
    /// From now on nothing arrives, and nobody is told.
    pub(super) fn drop_everything(&self) {
        self.0.drops.store(true, Ordering::SeqCst);
    }

    pub(super) fn break_with(&self, kind: io::ErrorKind) {
        *self.0.broken.lock().unwrap() = Some(kind);
        self.0.reader.wake();
    }
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) stream: DuplexStream,
    pub(super) way: Way,
}

impl AsyncRead for Ended {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.way.0.reader.register(cx.waker());
        if let Some(kind) = *self.way.0.broken.lock().unwrap() {
            return Poll::Ready(Err(kind.into()));
        }
        if self.way.0.drops.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Ended {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.way.0.drops.load(Ordering::SeqCst) {
            // Taken by a kernel that waits in vain for somebody to acknowledge it.
            return Poll::Ready(Ok(data.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
