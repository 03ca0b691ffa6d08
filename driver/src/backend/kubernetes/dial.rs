//! A byte stream to `buildkitd` in a pod, by the fastest way that answers.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Target;
use super::channel::{ChannelStream, WebSocket};
use super::client::{Cluster, Connection};
use super::errors::{RequestError, is_unauthorized};
use crate::backend::{BoxError, ByteStream, DialError, Dialed, Transport};
use crate::builder::PodName;
use crate::manifest::CertificateSet;
use crate::options::TransportChoice;
use crate::report::chain;

mod identity;
mod ladder;
mod ways;

/// For how long the way that worked is taken without trying faster ones.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long a way may take that is tried by itself.
const TRY: Duration = Duration::from_secs(10);

/// Ways to the pods of one node.
#[derive(Debug)]
pub(super) struct Dialer {
    choice: TransportChoice,
    identity: identity::Identity,
    worked: Mutex<Option<(Transport, Instant)>>,
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
        Self { choice, identity: identity::Identity::default(), worked: Mutex::default() }
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
        let way = |transport| ways::open(transport, cluster, target, &self.identity, pod, address);
        let steps = self.steps(address.is_some());
        match ladder::climb(&steps, way).await {
            Ok((transport, stream)) => {
                *self.worked.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((transport, Instant::now() + REMEMBERED));
                tracing::debug!(%pod, %transport, "connected");
                Ok(Dialed { stream, transport })
            }
            Err(failures) => Err(explained(pod, failures)),
        }
    }

    /// Tries each way by itself, and says how long it took until `buildkitd` could be spoken to, or why it did not work.
    pub(super) async fn try_each(
        &self,
        cluster: &Cluster,
        target: &Target,
        pod: &PodName,
        address: Option<IpAddr>,
    ) -> Vec<(Transport, Result<Duration, String>)> {
        let all = match self.choice {
            TransportChoice::Auto => vec![Transport::PodIp, Transport::PortForward, Transport::Exec],
            _ => self.steps(address.is_some()),
        };
        let mut tried = Vec::new();
        for way in all {
            let begun = Instant::now();
            let opened =
                tokio::time::timeout(TRY, ways::open(way, cluster, target, &self.identity, pod, address)).await;
            tried.push((
                way,
                match opened {
                    Ok(Ok(_stream)) => Ok(begun.elapsed()),
                    Ok(Err(failure)) => Err(chain(&*failure.into_source())),
                    Err(_) => Err(format!("no answer within {} s", TRY.as_secs())),
                },
            ));
        }
        tried
    }

    /// Which ways to try, in which order.
    fn steps(&self, has_address: bool) -> Vec<Transport> {
        let all = match self.choice {
            TransportChoice::Exec => return vec![Transport::Exec],
            TransportChoice::PortForward => return vec![Transport::PortForward],
            TransportChoice::PodIp => return vec![Transport::PodIp],
            TransportChoice::Auto => [Transport::PodIp, Transport::PortForward, Transport::Exec],
        };
        let mut steps: Vec<Transport> = all.into_iter().filter(|way| has_address || *way != Transport::PodIp).collect();
        let worked = *self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, until)) = worked
            && until > Instant::now()
            && let Some(at) = steps.iter().position(|way| *way == first)
        {
            steps[..=at].rotate_right(1);
        }
        steps
    }
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

/// The one way into a pod that is not ours.
pub(super) async fn by_exec(
    cluster: &Cluster,
    pod: &PodName,
    container: &str,
    address: Option<&str>,
) -> Result<Dialed, DialError> {
    let opened = match cluster.connection().await {
        Ok(connection) => ways::exec(&connection, pod, container, address).await,
        Err(error) => Err(Failure::Other(error.into())),
    };
    match opened {
        Ok(stream) => Ok(Dialed { stream, transport: Transport::Exec }),
        Err(failure) => {
            if let Failure::Other(source) = &failure
                && is_unauthorized(&**source)
            {
                cluster.forget();
            }
            Err(explained(pod, vec![(Transport::Exec, failure)]))
        }
    }
}

/// What every way ends in.
type Stream = Box<dyn ByteStream>;
