//! The task of a session: moves bytes between its switch and the calls that carry them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::call::{PodId, Side};
use super::switch::Switch;
use super::tunnel::Tunnel;

/// How much of one end's bytes is taken before the others have their turn.
const TURN: usize = 256 << 10;

/// After so many turns other tasks have theirs.
const TURNS: usize = 16;

/// What a session is told by those who give it to pods.
#[derive(Debug)]
enum Order {
    Join { tunnel: Tunnel, delivered: Arc<AtomicBool>, pod: PodId, ended: oneshot::Sender<()> },
    Leave(PodId),
    Drop(PodId),
}

/// Where a session takes its pods.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Orders {
    to: mpsc::UnboundedSender<Order>,
    count: Arc<AtomicU64>,
}

impl Orders {
    /// Gives the session to a pod; none when the session is over.
    pub(in crate::proxy) fn join(&self, tunnel: Tunnel, delivered: Arc<AtomicBool>) -> Option<Seat> {
        let pod = self.count.fetch_add(1, Ordering::Relaxed);
        let (ended, end) = oneshot::channel();
        self.to.send(Order::Join { tunnel, delivered, pod, ended }).ok()?;
        Some(Seat { pod, to: self.to.clone(), end })
    }
}

/// A pod that has the session. Dropping it takes the session from the pod.
#[derive(Debug)]
pub(in crate::proxy) struct Seat {
    pod: PodId,
    to: mpsc::UnboundedSender<Order>,
    end: oneshot::Receiver<()>,
}

impl Seat {
    /// Waits until the pod has left, or all of its calls have ended since it was told to.
    pub(in crate::proxy) async fn ended(&mut self) {
        let _ = (&mut self.end).await;
    }

    /// Tells the pod to begin nothing more. Its calls go on.
    pub(in crate::proxy) fn leave(&self) {
        let _ = self.to.send(Order::Leave(self.pod));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.to.send(Order::Drop(self.pod));
    }
}

/// One end's bytes.
#[derive(Debug)]
struct Line {
    side: Side,
    tunnel: Tunnel,
    /// Nothing more is read: what is to leave does, and then the line ends.
    closing: bool,
    /// Dropped with the line.
    _ended: Option<oneshot::Sender<()>>,
}

/// A session while it runs: ends when the user's end and all pods have left.
pub(in crate::proxy) struct Lines {
    switch: Switch,
    lines: Vec<Line>,
    orders: mpsc::UnboundedReceiver<Order>,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Tells by its drop that the user's end has left, whatever becomes of this task.
    left: Option<DropGuard>,
}

impl Lines {
    /// `gone` tells that nobody is left at the user's end; `left` is told when that end says so itself.
    pub(in crate::proxy) fn new(user: Tunnel, gone: CancellationToken, left: CancellationToken) -> (Self, Orders) {
        let (to, orders) = mpsc::unbounded_channel();
        let user = Line { side: Side::User, tunnel: user, closing: false, _ended: None };
        let gone = Box::pin(gone.cancelled_owned());
        (
            Self { switch: Switch::new(), lines: vec![user], orders, gone, left: Some(left.drop_guard()) },
            Orders { to, count: Arc::default() },
        )
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Join { tunnel, delivered, pod, ended } => {
                // Nobody is there to ask: the pod sees its session end.
                if self.has_user() {
                    self.switch.join(pod, delivered);
                    self.lines.push(Line { side: Side::Pod(pod), tunnel, closing: false, _ended: Some(ended) });
                }
            }
            Order::Leave(pod) => self.switch.leave(pod),
            Order::Drop(pod) => self.end(Side::Pod(pod)),
        }
    }

    fn has_user(&self) -> bool {
        self.lines.iter().any(|line| line.side == Side::User && !line.closing)
    }

    /// Ends one line, as far as it is there.
    fn end(&mut self, side: Side) {
        let before = self.lines.len();
        self.lines.retain(|line| line.side != side);
        if self.lines.len() < before {
            self.switch.lose(side);
        }
        if side == Side::User {
            self.left = None;
        }
    }

    /// Takes what one end has said. Whether there was anything.
    fn read(&mut self, at: usize, cx: &mut Context<'_>) -> Result<bool, io::Error> {
        let Line { side, tunnel, closing, .. } = &mut self.lines[at];
        let mut taken = 0;
        while !*closing && taken < TURN && self.switch.outbox(*side).is_some_and(|outbox| !outbox.is_crowded()) {
            let Poll::Ready(bytes) = tunnel.poll_bytes(cx)? else { break };
            let mut bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
            taken += bytes.len();
            if let Err(reason) = self.switch.hear(*side, &mut bytes) {
                tracing::debug!(?side, %reason, "an end of a session breaks HTTP/2");
                *closing = true;
            }
        }
        Ok(taken > 0)
    }

    /// Sends what one end is to be told. Whether there was anything that could leave.
    fn write(&mut self, at: usize, cx: &mut Context<'_>) -> Result<bool, io::Error> {
        let Line { side, tunnel, closing, .. } = &mut self.lines[at];
        let mut moved = false;
        loop {
            if !*closing {
                self.switch.fill(*side);
            }
            let Some(outbox) = self.switch.outbox(*side).filter(|outbox| !outbox.is_empty()) else { return Ok(moved) };
            if tunnel.poll_send(outbox, cx)?.is_pending() {
                return Ok(moved);
            }
            // There is room again, perhaps for what had none before.
            moved = true;
        }
    }

    /// Whether a line has nothing more to do.
    fn is_over(&mut self, at: usize) -> bool {
        let Line { side, closing, .. } = self.lines[at];
        let done = match side {
            Side::User => closing,
            Side::Pod(pod) => closing || self.switch.is_done(pod),
        };
        done && self.switch.outbox(side).is_none_or(|outbox| outbox.is_empty())
    }

    /// One turn of all lines. Whether anything moved.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let mut over = Vec::new();
        for step in [Self::read, Self::write] {
            for at in 0..self.lines.len() {
                match step(self, at, cx) {
                    Ok(some) => moved |= some,
                    Err(error) => {
                        tracing::trace!(side = ?self.lines[at].side, %error, "an end of a session has left");
                        over.push(self.lines[at].side);
                    }
                }
            }
        }
        for at in 0..self.lines.len() {
            if self.is_over(at) {
                over.push(self.lines[at].side);
            }
        }
        for side in &over {
            self.end(*side);
        }
        moved || !over.is_empty()
    }
}

impl Future for Lines {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.has_user() && this.gone.as_mut().poll(cx).is_ready() {
            this.end(Side::User);
        }
        for _ in 0..TURNS {
            while let Poll::Ready(Some(order)) = this.orders.poll_recv(cx) {
                this.obey(order);
            }
            let moved = this.turn(cx);
            if this.lines.is_empty() {
                return Poll::Ready(());
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
