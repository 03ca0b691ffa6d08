//! One HTTP/2 connection to the `buildkitd` of a pod.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use buildfleet_proto::buildkit::{ListWorkersRequest, ListWorkersResponse};
use bytes::Bytes;
use h2::client::SendRequest;
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ask::{self, AskError, Method};
use super::bulk::{Bulk, Lines};
use super::pulse::{Heard, Pulse, heard};
use crate::backend::{Dialed, Transport};
use crate::builder::PodName;
use crate::wire;

/// What `buildkitd` may take for ListWorkers once it was reached: it looks into its content store, which takes long on a
/// machine that starts many pods.
const PROBE: Duration = Duration::from_secs(10);

/// How many leases a pod has: told to whoever has to do something while there are any.
pub(super) type Held = Arc<watch::Sender<u32>>;

/// A way to a pod that answered, shared by all that is placed there.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) pod: PodName,
    pub(crate) incarnation: u64,
    pub(crate) transport: Transport,
    requests: SendRequest<Bytes>,
    lines: Lines,
    held: Held,
    pulse: Pulse,
    lost: CancellationToken,
    loss: Arc<OnceLock<Loss>>,
}

/// The part of a connection that moves its bytes; somebody has to poll it.
pub(super) type Driver = wire::Client<wire::Buffered<Heard>>;

/// Why a connection is no more, as far as it shows here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing was heard for so long.
    Silent(Duration),
    Broken,
}

/// Why a pod did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("failed to speak HTTP/2")]
    Http(#[source] h2::Error),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("did not answer within {} s", PROBE.as_secs())]
    Silent,
}

impl Upstream {
    /// The number of the connection for calls; those for bulk are counted from one.
    pub(super) const SHARED: u64 = 0;

    /// Greets the pod. The returned driver has to be polled from now on.
    pub(super) async fn greet(
        pod: PodName,
        incarnation: u64,
        held: Held,
        dialed: Dialed,
    ) -> Result<(Self, Driver), ProbeError> {
        let (transport, pulse) = (dialed.transport, Pulse::new());
        let (requests, driver) = greet(dialed, &pulse).await?;
        let (lines, lost, loss) = (Lines::new(), CancellationToken::new(), Arc::default());
        Ok((Self { pod, incarnation, transport, requests, lines, held, pulse, lost, loss }, driver))
    }

    /// Another connection to the same pod.
    pub(super) async fn greet_again(&self, dialed: Dialed) -> Result<(SendRequest<Bytes>, Driver), ProbeError> {
        greet(dialed, &self.pulse).await
    }

    /// Asks for the workers: the one question whose answer shows that the pod can build.
    pub(super) async fn list_workers(&self) -> Result<ListWorkersResponse, ProbeError> {
        let asked = self.ask(Method::ListWorkers, None, wire::message(&ListWorkersRequest::default()));
        let answer = tokio::time::timeout(PROBE, asked).await.map_err(|_| ProbeError::Silent)??;
        let malformed = || AskError::Malformed(Method::ListWorkers).into();
        wire::carried(&answer).and_then(|answer| ListWorkersResponse::decode(answer).ok()).ok_or_else(malformed)
    }

    /// A question of the fleet's own.
    pub(super) async fn ask(&self, method: Method, build: Option<&str>, question: Bytes) -> Result<Bytes, AskError> {
        ask::ask(self.requests.clone(), method, build, question).await
    }

    /// A handle for one request, when the connection still takes new ones.
    pub(crate) async fn requests(&self) -> Result<SendRequest<Bytes>, h2::Error> {
        let mut requests = self.requests.clone();
        tokio::select! {
            ready = poll_fn(|cx| requests.poll_ready(cx)) => ready?,
            () = self.lost.cancelled() => return Err(h2::Error::from(h2::Reason::CONNECT_ERROR)),
        }
        Ok(requests)
    }

    /// A place for a stream that carries much, on a connection that no small calls use if there is one.
    pub(super) async fn bulk(&self) -> Result<Bulk, h2::Error> {
        let placed = tokio::select! {
            placed = self.lines.place() => placed,
            () = self.lost.cancelled() => None,
        };
        match placed {
            Some(bulk) => Ok(bulk),
            None => self.requests().await.map(Bulk::shared),
        }
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The connections that carry something, each by a number of its own.
    pub(super) fn in_use(&self) -> Vec<(u64, SendRequest<Bytes>)> {
        let mut connections = self.lines.in_use();
        connections.push((Self::SHARED, self.requests.clone()));
        connections
    }

    /// Resolves when the connection is lost, or given up because its pod has ended.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Ends every call on the pod's connections: it is known to have ended, whatever the transport believes.
    pub(super) fn give_up(&self) {
        self.lost.cancel();
    }

    /// The same for a reason of our own.
    pub(super) fn lose(&self, loss: Loss) {
        // The first one stands.
        let _ = self.loss.set(loss);
        self.lost.cancel();
    }

    /// Why the connection was lost, when that was not the backend's word.
    pub(super) fn loss(&self) -> Option<&Loss> {
        self.loss.get()
    }
}

async fn greet(dialed: Dialed, pulse: &Pulse) -> Result<(SendRequest<Bytes>, Driver), ProbeError> {
    let stream = heard(dialed.stream, pulse.clone());
    // What goes through exec is kept there until it is flushed: once is enough.
    let buffered = if dialed.transport == Transport::Exec { wire::buffered_in } else { wire::buffered };
    wire::connect(buffered(stream)).await.map_err(ProbeError::Http)
}
