//! A `buildkitd` that somebody else runs, at an address, on another machine or in a container: never started and never
//! stopped here.

use std::io;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::finding::span;
use super::{
    ApplyError, Backend, ByteStream, DeleteError, DialError, Dialed, Finding, LogStream, LogsError, LogsWanted, Pod,
    PodPhase, Pods, Removal, Removed, StoryLine, Transport, Verdict, tcp,
};
use crate::builder::{Node, PodName, RemoteAddress};
use crate::options::RemoteOptions;

mod command;
mod process;
pub(super) mod tls;

use command::Line;
use process::{CommandError, CommandStream};
use tls::TlsError;

/// How long a connection may take, and TLS on it once more: the fleet asks again when it fails.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a command may take: it may ask name servers, jump over other machines, and prove who the user is.
const COMMAND: Duration = Duration::from_secs(9);

/// The one pod of a remote node.
#[derive(Debug)]
pub struct RemoteBackend {
    pod: PodName,
    address: RemoteAddress,
    options: RemoteOptions,
    pods: watch::Sender<Pods>,
}

/// Why the address could not be reached.
#[derive(Debug, thiserror::Error)]
enum RemoteError {
    #[error("failed to connect to {address}")]
    Connect {
        address: RemoteAddress,
        #[source]
        source: io::Error,
    },
    #[error("{address} did not accept a connection in {} s", within.as_secs())]
    ConnectTimedOut { address: RemoteAddress, within: Duration },
    #[error("failed to speak TLS with {address}")]
    Handshake {
        address: RemoteAddress,
        #[source]
        source: io::Error,
    },
    #[error("{address} did not answer in TLS in {} s", within.as_secs())]
    HandshakeTimedOut { address: RemoteAddress, within: Duration },
    #[error("failed to reach {address}")]
    Command {
        address: RemoteAddress,
        line: Line,
        #[source]
        source: CommandError,
    },
    #[error("no TLS with {address}")]
    Tls {
        address: RemoteAddress,
        #[source]
        source: TlsError,
    },
}

impl RemoteError {
    /// What the user can do about it, when that is known.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Command { line, source, .. } => command::hint(line, &source.to_string()),
            _ => None,
        }
    }
}

impl RemoteBackend {
    /// Dials nothing yet.
    pub fn start(node: Node, address: RemoteAddress, options: RemoteOptions) -> Self {
        let pod: PodName = String::from(node.name).parse().expect("a node's name has no white space");
        let seen = Pod {
            name: pod.clone(),
            // Whether it answers is for the fleet to find out.
            phase: PodPhase::Running,
            incarnation: 1,
            host: host(&address),
            started: None,
            story: vec![StoryLine::plain(format!("somebody else runs it at {address}"))],
            last_end: None,
        };
        let pods = Pods { known: true, applied: true, pods: vec![seen], ..Pods::default() };
        Self { pod, address, options, pods: watch::Sender::new(pods) }
    }

    async fn connect(&self) -> Result<Box<dyn ByteStream>, RemoteError> {
        let within = CONNECT.min(self.options.timeout);
        let address = || self.address.clone();
        let connected: io::Result<Box<dyn ByteStream>> = match &self.address {
            RemoteAddress::Unix(path) => bounded(within, UnixStream::connect(path))
                .await
                .ok_or_else(|| RemoteError::ConnectTimedOut { address: address(), within })?
                .map(|stream| Box::new(stream) as Box<dyn ByteStream>),
            RemoteAddress::Tcp { host, port } => {
                // The name is resolved here, so that each dial sees the addresses of now.
                let stream = bounded(within, tcp::connect((host.as_str(), *port)))
                    .await
                    .ok_or_else(|| RemoteError::ConnectTimedOut { address: address(), within })?
                    .map_err(|source| RemoteError::Connect { address: address(), source })?;
                return self.secure(stream, host, within).await;
            }
            RemoteAddress::Ssh(ssh) => return self.run(|within| command::by_ssh(ssh, within)).await,
            RemoteAddress::Container(container) => return self.run(|_| command::in_container(container)).await,
        };
        connected.map_err(|source| RemoteError::Connect { address: address(), source })
    }

    async fn run(&self, line: impl FnOnce(Duration) -> Line) -> Result<Box<dyn ByteStream>, RemoteError> {
        let within = COMMAND.min(self.options.timeout);
        let line = line(within);
        match CommandStream::open(&line, within).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => Err(RemoteError::Command { address: self.address.clone(), line, source }),
        }
    }

    async fn secure(&self, tcp: TcpStream, host: &str, within: Duration) -> Result<Box<dyn ByteStream>, RemoteError> {
        let address = || self.address.clone();
        let Some(files) = &self.options.tls else { return Ok(Box::new(tcp)) };
        // Read at each dial, so that renewed certificates need no restart.
        let (connector, name) =
            tls::connector(files, host).await.map_err(|source| RemoteError::Tls { address: address(), source })?;
        match bounded(within, connector.connect(name, tcp)).await {
            Some(Ok(stream)) => Ok(Box::new(stream)),
            Some(Err(source)) => Err(RemoteError::Handshake { address: address(), source }),
            None => Err(RemoteError::HandshakeTimedOut { address: address(), within }),
        }
    }

    fn transport(&self) -> Transport {
        match self.address {
            RemoteAddress::Unix(_) => Transport::Unix,
            RemoteAddress::Tcp { .. } => Transport::Tcp,
            RemoteAddress::Ssh(_) => Transport::Ssh,
            RemoteAddress::Container(_) => Transport::Container,
        }
    }
}

fn host(address: &RemoteAddress) -> Option<String> {
    match address {
        RemoteAddress::Unix(_) | RemoteAddress::Container(_) => None,
        RemoteAddress::Tcp { host, .. } => Some(host.clone()),
        RemoteAddress::Ssh(ssh) => Some(ssh.host().to_owned()),
    }
}

async fn bounded<T>(within: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(within, work).await.ok()
}

#[async_trait::async_trait]
impl Backend for RemoteBackend {
    async fn apply(&self, _replicas: u32) -> Result<(), ApplyError> {
        Ok(())
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.pods.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        if *pod != self.pod {
            return Err(DialError::Gone(pod.clone()));
        }
        let transport = self.transport();
        match self.connect().await {
            Ok(stream) => Ok(Dialed { stream, transport }),
            Err(source) => Err(DialError::Failed { pod: pod.clone(), transport, source: Box::new(source) }),
        }
    }

    async fn logs(&self, pod: &PodName, wanted: LogsWanted) -> Result<LogStream, LogsError> {
        if *pod != self.pod {
            return Err(LogsError::Gone(pod.clone()));
        }
        let RemoteAddress::Container(container) = &self.address else {
            return Err(LogsError::Unsupported(pod.clone()));
        };
        let failed = |pod: PodName, source: super::BoxError| LogsError::Failed { pod, source };
        let output = process::output(&command::logs(container, wanted));
        let output = output.map_err(|error| failed(pod.clone(), error.into()))?;
        let pod = pod.clone();
        Ok(output.map(move |chunk| chunk.map_err(|error| failed(pod.clone(), error.into()))).boxed())
    }

    async fn delete(&self, _removal: Removal) -> Result<Removed, DeleteError> {
        Ok(Removed::gone())
    }

    async fn examine(&self) -> Vec<Finding> {
        let begun = Instant::now();
        vec![match self.connect().await {
            Ok(_stream) => {
                let text = format!("{} in {}", self.address, span(begun.elapsed()));
                Finding::new(Verdict::Works, self.transport().to_string(), text)
            }
            Err(error) => {
                let finding = Finding::new(Verdict::Fails, self.transport().to_string(), crate::report::chain(&error));
                match error.hint() {
                    Some(hint) => finding.hint(hint),
                    None => finding,
                }
            }
        }]
    }
}
