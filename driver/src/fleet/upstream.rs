//! One HTTP/2 connection to the `buildkitd` of a pod.

use std::future::poll_fn;
use std::time::Duration;

use buildfleet_proto::buildkit::{ListWorkersRequest, ListWorkersResponse};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use tokio_util::sync::CancellationToken;

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
    lost: CancellationToken,
}

/// The part of an [`Upstream`] that moves its bytes; somebody has to poll it.
pub(crate) type Driver = wire::Client<wire::Buffered<Box<dyn ByteStream>>>;

/// Why a pod did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("failed to speak HTTP/2")]
    Http(#[source] h2::Error),
    #[error("ListWorkers failed with code {code}: {message}")]
    Refused { code: u16, message: String },
    #[error("answered ListWorkers with bytes that are no such answer")]
    Malformed,
    #[error("did not answer within {} s", PROBE.as_secs())]
    Silent,
}

impl Upstream {
    /// Greets the pod. The returned driver has to be polled from now on.
    pub(crate) async fn greet(pod: PodName, incarnation: u64, dialed: Dialed) -> Result<(Self, Driver), ProbeError> {
        let (requests, driver) = wire::connect(wire::buffered(dialed.stream)).await.map_err(ProbeError::Http)?;
        let upstream = Self { pod, incarnation, transport: dialed.transport, requests, lost: CancellationToken::new() };
        Ok((upstream, driver))
    }

    /// Asks for the workers: the one question whose answer shows that the pod can build.
    pub(crate) async fn list_workers(&self) -> Result<ListWorkersResponse, ProbeError> {
        tokio::time::timeout(PROBE, self.ask_for_workers()).await.unwrap_or(Err(ProbeError::Silent))
    }

    async fn ask_for_workers(&self) -> Result<ListWorkersResponse, ProbeError> {
        let request = Request::post("http://localhost/moby.buildkit.v1.Control/ListWorkers")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|_| ProbeError::Malformed)?;
        let mut requests = self.requests.clone().ready().await.map_err(ProbeError::Http)?;
        let (response, mut body) = requests.send_request(request, false).map_err(ProbeError::Http)?;
        body.send_data(wire::message(&ListWorkersRequest::default()), true).map_err(ProbeError::Http)?;
        let response = response.await.map_err(ProbeError::Http)?;
        let refused = |headers: &http::HeaderMap| match wire::code(headers) {
            None | Some(0) => None,
            Some(code) => Some(ProbeError::Refused { code, message: wire::message_text(headers).into_owned() }),
        };
        if let Some(error) = refused(response.headers()) {
            return Err(error);
        }
        let mut body = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(ProbeError::Http)?;
            let _ = body.flow_control().release_capacity(chunk.len());
            answer.extend_from_slice(&chunk);
        }
        if let Some(error) = body.trailers().await.map_err(ProbeError::Http)?.as_ref().and_then(refused) {
            return Err(error);
        }
        if answer.len() < 5 || answer[0] != 0 {
            return Err(ProbeError::Malformed);
        }
        answer.advance(5);
        ListWorkersResponse::decode(answer).map_err(|_| ProbeError::Malformed)
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
