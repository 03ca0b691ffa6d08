//! One HTTP/2 connection to the `buildkitd` of a pod.

use std::future::poll_fn;
use std::time::Duration;

use buildfleet_proto::buildkit::{ListWorkersRequest, ListWorkersResponse};
use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::ask::{self, AskError, Method};
use super::bulk::{Bulk, Lines};
use crate::backend::{ByteStream, Dialed, Transport};
use crate::builder::PodName;
use crate::wire;

/// What `buildkitd` may take for ListWorkers once it was reached: it looks into its content store, which takes long on a
/// machine that starts many pods.
const PROBE: Duration = Duration::from_secs(10);

/// A way to a pod that answered, shared by all that is placed there.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) pod: PodName,
    pub(crate) incarnation: u64,
    pub(crate) transport: Transport,
    requests: SendRequest<Bytes>,
    lines: Lines,
    lost: CancellationToken,
}

/// The part of an [`Upstream`] that moves its bytes; somebody has to poll it.
pub(crate) type Driver = Connection<Box<dyn ByteStream>, Bytes>;

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
    /// Greets the pod. The returned driver has to be polled from now on.
    pub(crate) async fn greet(pod: PodName, incarnation: u64, dialed: Dialed) -> Result<(Self, Driver), ProbeError> {
        let (requests, driver) = wire::client().handshake(dialed.stream).await.map_err(ProbeError::Http)?;
        let upstream = Self {
            pod,
            incarnation,
            transport: dialed.transport,
            requests,
            lines: Lines::new(),
            lost: CancellationToken::new(),
        };
        Ok((upstream, driver))
    }

    /// Asks for the workers: the one question whose answer shows that the pod can build.
    pub(super) async fn list_workers(&self) -> Result<ListWorkersResponse, ProbeError> {
        let asked = self.ask(Method::ListWorkers, None, wire::message(&ListWorkersRequest::default()));
        let answer = tokio::time::timeout(PROBE, asked).await.map_err(|_| ProbeError::Silent)??;
        let malformed = || AskError::Malformed(Method::ListWorkers).into();
        ask::message(&answer).and_then(|answer| ListWorkersResponse::decode(answer).ok()).ok_or_else(malformed)
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

    /// Resolves when the connection is lost, or given up because its pod has ended.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Ends every call on this connection: its pod is known to have ended, whatever the transport believes.
    pub(crate) fn give_up(&self) {
        self.lost.cancel();
    }
}
