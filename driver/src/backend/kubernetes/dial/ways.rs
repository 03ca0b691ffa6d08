//! The three ways into a pod.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::{AttachParams, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::identity::Identity;
use super::{Failure, Routed, Stream};
use crate::backend::kubernetes::channel::{ChannelStream, WebSocket, Wire};
use crate::backend::kubernetes::client::{Cluster, Connection};
use crate::backend::kubernetes::errors::{RequestError, ask};
use crate::backend::kubernetes::{BUILDKITD, Target};
use crate::backend::{BoxError, Transport, tcp};
use crate::builder::PodName;
use crate::manifest::{TLS_PORT, TLS_SERVER_NAME, unix_address};

/// Pods are near, or not reachable at all.
const TCP_TIMEOUT: Duration = Duration::from_secs(1);
const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command may be silent before it counts as started. `buildkitd` speaks first, at once.
const EXEC_SILENCE: Duration = Duration::from_secs(3);

pub(super) async fn open(
    transport: Transport,
    cluster: &Cluster,
    target: &Target,
    identity: &Identity,
    pod: &PodName,
    address: Option<IpAddr>,
    routed: Routed,
) -> Result<Stream, Failure> {
    let connection = cluster.connection().await.map_err(|error| Failure::Other(error.into()))?;
    let opened = match transport {
        Transport::Exec => exec(&connection, pod, BUILDKITD, Some(unix_address(&target.options))).await,
        Transport::PortForward => {
            let secured = Secured { connection: &connection, target, identity };
            secured.open(|| port_forward(&connection, pod, TLS_PORT)).await
        }
        Transport::PodIp => {
            let Some(address) = address else {
                return Err(Failure::Other("the pod has no address yet".into()));
            };
            let secured = Secured { connection: &connection, target, identity };
            secured.open(|| pod_ip(address, TLS_PORT, &routed)).await
        }
        Transport::Ssh | Transport::Container | Transport::Unix | Transport::Tcp => {
            Err(Failure::Other("no way into a pod".into()))
        }
    };
    opened.inspect_err(|failure| failure.renew(cluster))
}

/// mTLS over whatever reaches the pod's port.
struct Secured<'a> {
    connection: &'a Connection,
    target: &'a Target,
    identity: &'a Identity,
}

impl Secured<'_> {
    async fn open<S, F>(&self, dial: impl Fn() -> F) -> Result<Stream, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: Future<Output = Result<S, Failure>>,
    {
        let name = || ServerName::try_from(TLS_SERVER_NAME).map_err(into_failure);
        let connector = self.identity.connector(self.connection, self.target).await?;
        match handshake(&connector, name()?, dial().await?, TLS_PORT).await {
            Err(Failure::Untrusted(error)) => {
                let renewed = self.identity.renewed(self.connection, self.target).await;
                for connector in renewed.into_iter().chain(self.identity.previous()) {
                    match handshake(&connector, name()?, dial().await?, TLS_PORT).await {
                        Err(Failure::Untrusted(_)) => {}
                        outcome => return outcome,
                    }
                }
                Err(Failure::Untrusted(error))
            }
            outcome => outcome,
        }
    }
}

/// `port` is where `stream` leads to in the pod.
pub(super) async fn handshake<S>(
    connector: &TlsConnector,
    name: ServerName<'static>,
    stream: S,
    port: u16,
) -> Result<Stream, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match tokio::time::timeout(TLS_TIMEOUT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(handshake_failure(error, port)),
        Err(_) => Err(Failure::Other(format!("no TLS handshake within {} s", TLS_TIMEOUT.as_secs()).into())),
    }
}

fn handshake_failure(error: io::Error, port: u16) -> Failure {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>());
    if is_tls {
        return Failure::Untrusted(error.into());
    }
    // The kubelet's words on the error channel: long, and only the end of them says something.
    if error.to_string().contains("connection refused") {
        return Failure::Refused(format!("nothing listens on port {port} in the pod: connection refused").into());
    }
    Failure::Other(error.into())
}

pub(super) async fn pod_ip(address: IpAddr, port: u16, routed: &Routed) -> Result<TcpStream, Failure> {
    match tokio::time::timeout(TCP_TIMEOUT, tcp::connect((address, port))).await {
        Ok(Ok(stream)) => {
            routed.set();
            Ok(stream)
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Failure::Refused(error.into())),
        Ok(Err(error)) => Err(Failure::Other(error.into())),
        Err(_) => Err(Failure::Other(format!("no answer from {address}:{port} within 1 s").into())),
    }
}

pub(super) async fn port_forward(
    connection: &Connection,
    pod: &PodName,
    port: u16,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, Failure> {
    let request = pods(connection).portforward(pod.as_str(), &[port]).map_err(into_failure)?;
    let upgraded = ask(connection.client.connect(request)).await.map_err(|error| refusal(error, pod))?;
    Ok(ChannelStream::open(upgraded.into_stream(), Wire::PortForward))
}

/// `buildctl dial-stdio` in a container, at `address` or else where the image has its `buildkitd`.
pub(in super::super) async fn exec(
    connection: &Connection,
    pod: &PodName,
    container: &str,
    address: Option<&str>,
) -> Result<Stream, Failure> {
    let given = address.into_iter().flat_map(|address| ["--addr", address]);
    let words = std::iter::once("buildctl").chain(given).chain(["dial-stdio"]);
    let mut stream = command(connection, pod, container, words.map(str::to_owned).collect()).await?;
    // The upgrade says nothing of the command: it may not exist, or find no buildkitd (docker/buildx#4040).
    match tokio::time::timeout(EXEC_SILENCE, stream.first_data()).await {
        Ok(Ok(())) | Err(_) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(Failure::Other(error.into())),
    }
}

/// A command in a container, with its input and its output.
pub(in super::super) async fn command(
    connection: &Connection,
    pod: &PodName,
    container: &str,
    words: Vec<String>,
) -> Result<ChannelStream<impl WebSocket + use<>>, Failure> {
    let params = AttachParams::default().container(container).stdin(true).stdout(true).stderr(true).tty(false);
    let request = pods(connection).exec(pod.as_str(), words, &params).map_err(into_failure)?;
    let upgraded = ask(connection.client.connect(request)).await.map_err(|error| refusal(error, pod))?;
    let wire = Wire::Exec { close_signal: upgraded.supports_stream_close() };
    Ok(ChannelStream::open(upgraded.into_stream(), wire))
}

fn pods(connection: &Connection) -> Request {
    Request::new(Pod::url_path(&(), Some(&connection.namespace)))
}

fn into_failure(error: impl Into<BoxError>) -> Failure {
    Failure::Other(error.into())
}

fn refusal(error: RequestError, pod: &PodName) -> Failure {
    match error {
        RequestError::Refused { code: 404, ref message, .. } if message.contains(pod.as_str()) => Failure::Gone,
        error => error.into(),
    }
}
