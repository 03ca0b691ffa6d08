//! A byte stream to a port of a pod that is not ours, by TLS with the user's own files.

use std::net::IpAddr;

use super::steps::Steps;
use super::{Failure, Routed, Stream, Tried, climb, try_each, ways};
use crate::backend::kubernetes::client::Cluster;
use crate::backend::remote::tls;
use crate::backend::{BoxError, DialError, Dialed, Transport};
use crate::builder::PodName;
use crate::options::{RemoteTls, TransportChoice};

/// Ways to a port of the pods behind one Service.
#[derive(Debug)]
pub(in super::super) struct PortDialer {
    steps: Steps,
    /// `None` was refused when the node was created.
    files: Option<RemoteTls>,
    /// What the certificates of the pods carry, unless the options say otherwise.
    service: String,
}

/// Where `buildkitd` listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Door {
    pub(in super::super) address: Option<IpAddr>,
    pub(in super::super) port: u16,
}

impl PortDialer {
    pub(in super::super) fn new(choice: TransportChoice, files: Option<RemoteTls>, service: String) -> Self {
        Self { steps: Steps::new(choice, &[Transport::PodIp, Transport::PortForward]), files, service }
    }

    pub(in super::super) fn choice(&self) -> TransportChoice {
        self.steps.choice()
    }

    pub(in super::super) async fn dial(
        &self,
        cluster: &Cluster,
        pod: &PodName,
        door: &Door,
    ) -> Result<Dialed, DialError> {
        climb(&self.steps, pod, door.address, |way, routed| self.open(way, cluster, pod, door, routed)).await
    }

    /// As [`super::Dialer::try_each`].
    pub(in super::super) async fn try_each(&self, cluster: &Cluster, pod: &PodName, door: &Door) -> Vec<Tried> {
        try_each(self.steps.each(), |way, routed| self.open(way, cluster, pod, door, routed)).await
    }

    async fn open(
        &self,
        way: Transport,
        cluster: &Cluster,
        pod: &PodName,
        Door { address, port }: &Door,
        routed: Routed,
    ) -> Result<Stream, Failure> {
        // Read at each dial, so that renewed certificates need no restart.
        let no_files = || other("the driver options have no `cacert`, and a port of a pod is spoken to by TLS alone");
        let files = self.files.as_ref().ok_or_else(no_files)?;
        let (connector, name) = tls::connector(files, &self.service).await.map_err(other)?;
        match (way, address) {
            (Transport::PodIp, Some(address)) => {
                ways::handshake(&connector, name, ways::pod_ip(*address, *port, &routed).await?, *port).await
            }
            (Transport::PodIp, None) => Err(Failure::Other("the pod has no address yet".into())),
            _ => {
                let connection = cluster.connection().await.map_err(other)?;
                let forwarded = ways::port_forward(&connection, pod, *port).await;
                let stream = forwarded.inspect_err(|failure| failure.renew(cluster))?;
                ways::handshake(&connector, name, stream, *port).await
            }
        }
    }
}

fn other(error: impl Into<BoxError>) -> Failure {
    Failure::Other(error.into())
}
