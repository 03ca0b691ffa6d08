//! Notices a pod that has fallen silent although its connections stand: the network drops everything, or its node is gone.
//!
//! While builds run there, each connection in use carries a health check every 0.2 s. (Not HTTP/2's own ping: `buildkitd`
//! answers frequent ones with GOAWAY.) Where a connection ends in the pod's own kernel, that acknowledges the check however
//! busy `buildkitd` is, and our kernel breaks the connection when it does not: the answer does not matter and is not waited
//! for, because only what was sent can stay unacknowledged. Where the API server is in between, its kernel would acknowledge
//! for a pod that is long gone, so the pod itself has to say something: not the answer in time, but any byte on any of its
//! connections.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use buildfleet_proto::health::HealthCheckRequest;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::client::SendRequest;
use tokio::time::MissedTickBehavior;

use super::ask::{self, Method};
use super::upstream::Upstream;
use crate::backend::Transport;
use crate::wire;

/// Each begins a check on every connection in use.
const TICK: Duration = Duration::from_millis(200);

/// So many ticks in a row without a byte, and with a check that waits for its answer, and the pod is given up. Ticks are
/// counted instead of time, and those that were missed are not, so that a daemon that was stopped itself for a while hears
/// first what has come meanwhile. One that is only late keeps to the beat, or each tick's delay would add to the others'.
const SILENT: u32 = 10;

/// So many ticks may a check on the connection for calls wait, whatever is heard on the others: what is between may have
/// forgotten that connection alone.
const STUCK: u32 = 150;

/// Who judges whether a pod is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// Our own kernel, which is given something to send.
    Kernel,
    /// We, by what is heard.
    Ourselves,
    /// Nobody has to: the pod is a process of this machine.
    Nobody,
}

impl Judge {
    fn of(transport: Transport) -> Self {
        match transport {
            Transport::PodIp | Transport::Tcp => Self::Kernel,
            Transport::PortForward | Transport::Exec | Transport::Ssh | Transport::Container => Self::Ourselves,
            Transport::Unix => Self::Nobody,
        }
    }

    /// For how long a check is left open: until the judgement, after which its answer does not matter.
    fn patience(self) -> Duration {
        match self {
            Self::Kernel => Duration::from_secs(3),
            Self::Ourselves | Self::Nobody => TICK * (STUCK + 1),
        }
    }
}

/// Resolves when the pod has fallen silent.
pub(super) async fn noticed(upstream: &Upstream) {
    let judge = Judge::of(upstream.transport);
    if judge == Judge::Nobody {
        return std::future::pending().await;
    }
    let mut held = upstream.held().subscribe();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut checks = FuturesUnordered::new();
    let mut unanswered = BTreeSet::new();
    let (mut last, mut silent, mut stuck) = (upstream.pulse().last(), 0, 0);
    loop {
        if checks.is_empty() {
            // Its sender is in `upstream`.
            let _ = held.wait_for(|held| *held > 0).await;
        }
        tokio::select! {
            Some(number) = checks.next() => {
                unanswered.remove(&number);
            }
            _ = ticks.tick() => {
                let heard = upstream.pulse().last();
                silent = if heard == last && !unanswered.is_empty() { silent + 1 } else { 0 };
                stuck = if unanswered.contains(&Upstream::SHARED) { stuck + 1 } else { 0 };
                last = heard;
                if judge == Judge::Ourselves && (silent >= SILENT || stuck >= STUCK) {
                    return;
                }
                if *held.borrow() > 0 {
                    for (number, requests) in upstream.in_use() {
                        if unanswered.insert(number) || judge == Judge::Kernel {
                            checks.push(check(number, requests, judge.patience()));
                        }
                    }
                }
            }
        }
    }
}

/// A refusal is an answer too.
async fn check(number: u64, requests: SendRequest<Bytes>, patience: Duration) -> u64 {
    let question = wire::message(&HealthCheckRequest::default());
    match tokio::time::timeout(patience, ask::ask(requests, Method::Check, None, question)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::trace!(%error, "a health check failed"),
        Err(_) => tracing::trace!("a health check was not answered"),
    }
    number
}

/// Whether a connection broke because our kernel heard nothing from the other side's.
pub(super) fn is_of_the_kernel(error: &h2::Error) -> bool {
    let kind = error.get_io().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable))
}
