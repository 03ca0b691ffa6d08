//! The way of an archive from the thread that packs it to the call that sends it: in pieces, no faster than they go.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::{Content, PackError};

/// The largest message of a context.
const PIECE: usize = 256 * 1024;

/// How many pieces may wait to be sent.
const WAITING: usize = 4;

/// An archive on its way.
#[derive(Debug)]
pub(in crate::cli::job) struct Packing {
    pub(in crate::cli::job) pieces: mpsc::Receiver<Vec<u8>>,
    pub(in crate::cli::job) ended: oneshot::Receiver<Result<(), PackError>>,
    sent: Arc<AtomicU64>,
}

impl Packing {
    /// Packs on a thread of its own, which ends when nobody takes the pieces any more.
    pub(in crate::cli::job) fn begin(content: Content) -> Self {
        let (out, pieces) = mpsc::channel(WAITING);
        let (told, ended) = oneshot::channel();
        let sent = Arc::new(AtomicU64::new(0));
        let writer = Pieces { out, held: Vec::with_capacity(PIECE), sent: Arc::clone(&sent) };
        tokio::task::spawn_blocking(move || {
            // Without a receiver nobody waits for the archive.
            let _ = told.send(content.pack(writer));
        });
        Self { pieces, ended, sent }
    }

    /// How large the archive is so far.
    pub(in crate::cli::job) fn size(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }
}

struct Pieces {
    out: mpsc::Sender<Vec<u8>>,
    held: Vec<u8>,
    sent: Arc<AtomicU64>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        if self.held.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.held, Vec::with_capacity(PIECE));
        self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.out.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::job::context::Tree;

    #[tokio::test]
    async fn an_archive_comes_in_pieces_of_a_bounded_size_and_no_faster_than_they_are_taken() {
        // Bytes that do not compress.
        let mut state = 1_u64;
        let random = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let bytes: Vec<u8> = (0..4 * 1024 * 1024).map(random).collect();
        let tree = Tree { directory: None, files: vec![("x".into(), bytes)] };
        let mut packing = Packing::begin(Content::Tree(tree));
        let size = packing.size();
        // Nobody takes any: what waits, and one more that waits for a place.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert!(size.load(Ordering::Relaxed) <= ((WAITING + 1) * PIECE) as u64);
        let mut total = 0;
        while let Some(piece) = packing.pieces.recv().await {
            assert!(piece.len() <= PIECE);
            total += piece.len();
        }
        assert!(total > 4 * 1024 * 1024 && total as u64 == size.load(Ordering::Relaxed), "{total}");
        packing.ended.await.expect("it says how it ended").expect("it was packed");
    }

    #[tokio::test]
    async fn a_packer_that_nobody_listens_to_ends() {
        let tree = Tree { directory: None, files: vec![("x".into(), b"x".to_vec())] };
        let Packing { pieces, ended, .. } = Packing::begin(Content::Tree(tree));
        drop(pieces);
        let error = ended.await.expect("it says how it ended").expect_err("nobody took it");
        assert!(matches!(error, PackError::Unwanted(_)), "{error:?}");
    }
}
