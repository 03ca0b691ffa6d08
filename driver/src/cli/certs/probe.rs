//! One connection to a daemon with certificates: what it shows, and whether it lets a client in.

use std::time::Duration;

use buildfleet_proto::buildkit::InfoRequest;
use buildfleet_proto::buildkit::control_client::ControlClient;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tonic::transport::{Endpoint, Uri};

use crate::certificates::{self, Certificate, ClientPair, Connector, Text, TlsError, Versions};
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
        match tokio::time::timeout(self.within, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("failed to connect: {error}")),
            Err(_) => Err(format!("no connection within {} s", self.within.as_secs())),
        }
    }

    /// Greets, and says what the daemon has shown.
    pub(super) async fn server(&self, ca: &Text<'_>, client: &ClientPair<'_>) -> Result<Server, Silence> {
        let connector = connector(ca, Some(client))?;
        let stream = self.tcp().await.map_err(Silence::Other)?;
        let greeting = certificates::connect(&connector, &self.name, stream);
        match tokio::time::timeout(self.within, greeting).await {
            Ok(Ok(secured)) => {
                let certificate = secured.peer().map_err(|error| Silence::Other(report::chain(&error)))?;
                Ok(Server { version: secured.version(), certificate })
            }
            Ok(Err(error)) => Err(silence(&error)),
            Err(_) => Err(Silence::Other(format!("no answer in TLS within {} s", self.within.as_secs()))),
        }
    }

    /// The version of a daemon that lets this client in. With TLS 1.3, a refusal comes only after the greeting.
    pub(super) async fn version(&self, ca: &Text<'_>, client: Option<&ClientPair<'_>>) -> Result<String, Silence> {
        let connector = connector(ca, client)?;
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
            let channel = channel.map_err(Either::Left)?;
            ControlClient::new(channel).info(InfoRequest {}).await.map_err(Either::Right)
        };
        match tokio::time::timeout(self.within, asked).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().buildkit_version.unwrap_or_default().version),
            Ok(Err(Either::Left(error))) => Err(silence(&error)),
            Ok(Err(Either::Right(status))) => Err(silence(&status)),
            Err(_) => Err(Silence::Other(format!("no answer within {} s", self.within.as_secs()))),
        }
    }
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
