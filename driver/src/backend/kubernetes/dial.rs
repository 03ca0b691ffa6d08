//! A byte stream to `buildkitd` in a pod, by the fastest way that answers.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Target;
use super::attached::WITHOUT_EXEC;
use super::channel::{ChannelStream, WebSocket};
use super::client::{Cluster, Connection};
use super::errors::{RequestError, is_forbidden, is_unauthorized};
use crate::backend::{BoxError, ByteStream, DialError, Dialed, Transport};
use crate::builder::PodName;
use crate::manifest::CertificateSet;
use crate::options::TransportChoice;
use crate::report::chain;

mod identity;
mod ladder;
mod port;
mod steps;
mod ways;

use ladder::{Reached, Routed};
pub(super) use port::{Door, PortDialer};
use steps::Steps;

/// How long a way may take that is tried by itself.
const TRY: Duration = Duration::from_secs(10);

/// How long a way took, or why it did not work.
pub(super) type Tried = (Transport, Result<Duration, String>);

/// Ways to the pods of one node.
#[derive(Debug)]
pub(super) struct Dialer {
    steps: Steps,
    identity: identity::Identity,
}

/// Why one way failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such pod.
    Gone,
    /// Somebody answered: nothing listens there yet.
    Refused(BoxError),
    /// The other side does not show the certificate that we expect.
    Untrusted(BoxError),
    Other(BoxError),
}

impl Failure {
    fn into_source(self) -> BoxError {
        match self {
            Self::Gone => "the pod is not there".into(),
            Self::Refused(source) | Self::Untrusted(source) | Self::Other(source) => source,
        }
    }

    /// Credentials that are refused are read again by the next use.
    fn renew(&self, cluster: &Cluster) {
        if let Self::Other(source) = self
            && is_unauthorized(&**source)
        {
            cluster.forget();
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Other(error.into())
    }
}

/// A command in a container of a pod, with its input and its output.
pub(super) async fn command(
    connection: &Connection,
    pod: &PodName,
    container: &str,
    words: Vec<String>,
) -> Result<ChannelStream<impl WebSocket + use<>>, BoxError> {
    ways::command(connection, pod, container, words).await.map_err(Failure::into_source)
}

impl Dialer {
    pub(super) fn new(choice: TransportChoice) -> Self {
        let all = &[Transport::PodIp, Transport::PortForward, Transport::Exec];
        Self { steps: Steps::new(choice, all), identity: identity::Identity::default() }
    }

    /// Spares the first dial a look into the cluster.
    pub(super) fn remember(&self, certificates: &CertificateSet) {
        self.identity.remember(certificates);
    }

    pub(super) async fn dial(
        &self,
        cluster: &Cluster,
        target: &Target,
        pod: &PodName,
        address: Option<IpAddr>,
    ) -> Result<Dialed, DialError> {
        let way = |way, routed| ways::open(way, cluster, target, &self.identity, pod, address, routed);
        climb(&self.steps, pod, address, way).await
    }

    /// Tries each way by itself, and says how long it took until `buildkitd` could be spoken to, or why it did not work.
    pub(super) async fn try_each(
        &self,
        cluster: &Cluster,
        target: &Target,
        pod: &PodName,
        address: Option<IpAddr>,
    ) -> Vec<Tried> {
        let way = |way, routed| ways::open(way, cluster, target, &self.identity, pod, address, routed);
        try_each(self.steps.each(), way).await
    }
}

/// The first of the ways that answers.
async fn climb<F>(
    steps: &Steps,
    pod: &PodName,
    address: Option<IpAddr>,
    open: impl Fn(Transport, Routed) -> F,
) -> Result<Dialed, DialError>
where
    F: Future<Output = Result<Stream, Failure>>,
{
    match ladder::climb(&steps.now(address.is_some()), open).await {
        Ok(Reached { way: transport, stream, by_chance }) => {
            if !by_chance {
                steps.worked(transport);
            }
            tracing::debug!(%pod, %transport, "connected");
            Ok(Dialed { stream, transport })
        }
        Err(failures) => Err(explained(pod, failures)),
    }
}

async fn try_each<F>(ways: Vec<Transport>, open: impl Fn(Transport, Routed) -> F) -> Vec<Tried>
where
    F: Future<Output = Result<Stream, Failure>>,
{
    let mut tried = Vec::new();
    for way in ways {
        tried.push(try_one(way, open(way, Routed::default())).await);
    }
    tried
}

async fn try_one(way: Transport, opening: impl Future<Output = Result<Stream, Failure>>) -> Tried {
    let begun = Instant::now();
    let outcome = match tokio::time::timeout(TRY, opening).await {
        Ok(Ok(_stream)) => Ok(begun.elapsed()),
        Ok(Err(failure)) => Err(chain(&*failure.into_source())),
        Err(_) => Err(format!("no answer within {} s", TRY.as_secs())),
    };
    (way, outcome)
}

/// All failures as one: that of the last way names the transport, the others stand in its source.
fn explained(pod: &PodName, mut failures: Vec<(Transport, Failure)>) -> DialError {
    if failures.iter().any(|(_, failure)| matches!(failure, Failure::Gone)) {
        return DialError::Gone(pod.clone());
    }
    let Some((transport, last)) = failures.pop() else { return DialError::Gone(pod.clone()) };
    let last = last.into_source();
    let source = if failures.is_empty() {
        last
    } else {
        let mut text = chain(&*last);
        for (transport, failure) in failures {
            text.push_str(&format!("; {transport}: {}", chain(&*failure.into_source())));
        }
        text.into()
    };
    DialError::Failed { pod: pod.clone(), transport, source }
}

/// `buildctl` in a container of a pod that is not ours.
pub(super) async fn by_exec(
    cluster: &Cluster,
    pod: &PodName,
    container: &str,
    address: Option<&str>,
) -> Result<Dialed, DialError> {
    match exec(cluster, pod, container, address).await {
        Ok(stream) => Ok(Dialed { stream, transport: Transport::Exec }),
        Err(failure) => Err(explained(pod, vec![(Transport::Exec, failure)])),
    }
}

/// The same, for those who only want to know whether it works.
pub(super) async fn try_exec(cluster: &Cluster, pod: &PodName, container: &str, address: Option<&str>) -> Tried {
    try_one(Transport::Exec, exec(cluster, pod, container, address)).await
}

async fn exec(cluster: &Cluster, pod: &PodName, container: &str, address: Option<&str>) -> Result<Stream, Failure> {
    let connection = cluster.connection().await.map_err(|error| Failure::Other(error.into()))?;
    match ways::exec(&connection, pod, container, address).await {
        Err(Failure::Other(source)) if is_forbidden(&*source) => {
            let namespace = &connection.namespace;
            let text = format!("not allowed to create pods/exec in namespace {namespace}: {source}; {WITHOUT_EXEC}");
            Err(Failure::Other(text.into()))
        }
        opened => opened.inspect_err(|failure| failure.renew(cluster)),
    }
}

/// What every way ends in.
type Stream = Box<dyn ByteStream>;
