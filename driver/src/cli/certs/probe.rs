//! One connection to a daemon with certificates: what it shows, and whether it lets a client in.

use std::future::Future;
use std::time::Duration;

use buildfleet_proto::buildkit::InfoRequest;
use buildfleet_proto::buildkit::control_client::ControlClient;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::transport::{Endpoint, Uri};

use crate::certificates::{self, Certificate, ClientPair, Connector, Secured, Text, TlsError, Versions};
use crate::report;

/// Where a daemon is, and what to look for in its certificate.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: String,
    pub(super) within: Duration,
}

/// What a daemon's end of TLS says of itself.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) certificate: Certificate,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Silence {
    /// The daemon does not let this client in.
    Refused(String),
    Other(String),
}

impl Target {
    async fn tcp(&self) -> Result<TcpStream, String> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        within("connection", self.within, connect).await?.map_err(|error| format!("failed to connect: {error}"))
    }

    async fn greet(&self, connector: &Connector) -> Result<Secured<TcpStream>, Silence> {
        let stream = self.tcp().await.map_err(Silence::Other)?;
        let greeting = certificates::connect(connector, &self.name, stream);
        let secured = within("answer in TLS", self.within, greeting).await.map_err(Silence::Other)?;
        secured.map_err(|error| silence(&error))
    }

    /// What the daemon shows.
    pub(super) async fn server(&self, ca: &Text<'_>, client: &ClientPair<'_>) -> Result<Server, Silence> {
        let secured = self.greet(&connector(ca, Some(client))?).await?;
        let certificate = secured.peer().map_err(|error| Silence::Other(report::chain(&error)))?;
        Ok(Server { version: secured.version(), certificate })
    }

    /// Whether the daemon lets this client in.
    ///
    /// With TLS 1.3, a refusal comes only after the greeting. Nothing is sent before the daemon's own first words: it would
    /// close the connection on what it has not read, and its reason would be lost on the way.
    pub(super) async fn let_in(&self, ca: &Text<'_>, client: Option<&ClientPair<'_>>) -> Result<(), Silence> {
        let mut secured = self.greet(&connector(ca, client)?).await?;
        let first = within("answer", self.within, secured.read_u8()).await.map_err(Silence::Other)?;
        first.map(drop).map_err(|error| silence(&error))
    }

    /// The version of a daemon that lets this client in.
    pub(super) async fn version(&self, ca: &Text<'_>, client: &ClientPair<'_>) -> Result<String, Silence> {
        let connector = connector(ca, Some(client))?;
        let target = self.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let (target, connector) = (target.clone(), connector.clone());
            async move {
                let stream = target.tcp().await.map_err(std::io::Error::other)?;
                certificates::connect(&connector, &target.name, stream).await.map(TokioIo::new)
            }
        });
        let asked = async {
            let channel = Endpoint::from_static("http://buildkitd.invalid").connect_with_connector(connect).await;
            let channel = channel.map_err(|error| silence(&error))?;
            ControlClient::new(channel).info(InfoRequest {}).await.map_err(|status| silence(&status))
        };
        let answer = within("answer", self.within, asked).await.map_err(Silence::Other)??;
        Ok(answer.into_inner().buildkit_version.unwrap_or_default().version)
    }
}

async fn within<T>(what: &str, limit: Duration, awaited: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(limit, awaited).await.map_err(|_| format!("no {what} within {} s", limit.as_secs()))
}

fn connector(ca: &Text<'_>, client: Option<&ClientPair<'_>>) -> Result<Connector, Silence> {
    certificates::connector(ca, client, Versions::Safe).map_err(|error: TlsError| Silence::Other(report::chain(&error)))
}

fn silence(error: &(dyn std::error::Error + 'static)) -> Silence {
    match certificates::refusal(error) {
        Some((text, true)) => Silence::Refused(text),
        Some((text, false)) => Silence::Other(text),
        None => Silence::Other(report::chain(error)),
    }
}
