//! BuildKit's own API on the sockets of a builder's nodes, which the daemon serves for all of a node's pods.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use buildfleet_proto::buildkit::ListWorkersRequest;
use buildfleet_proto::buildkit::control_client::ControlClient;
use buildfleet_proto::content::content_client::ContentClient;
use buildfleet_proto::fleet::{Builder, Node};
use futures::future::{join_all, try_join_all};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::UnixStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};

use super::Context;
use super::failure::Failure;

/// How long the daemon may take to answer the greeting on a socket.
const GREETING: Duration = Duration::from_secs(5);

/// How long one answer may take: the daemon gives up pods that are silent, and waits a minute for those that work.
const ANSWER: Duration = Duration::from_secs(90);

/// The trailer by which the daemon says what is missing in an answer that was put together.
const WARNING: &str = "buildfleet-warning";

/// The builder that is meant, for commands that take the builder as their only name.
#[derive(Debug, clap::Args)]
pub(super) struct Chosen {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    #[arg(value_name = "BUILDER")]
    name: Option<String>,
    /// The same, as docker buildx has it
    #[arg(long = "builder", value_name = "BUILDER", conflicts_with = "name")]
    builder: Option<String>,
}

impl Chosen {
    pub(super) fn by_name(name: String) -> Self {
        Self { name: Some(name), builder: None }
    }

    pub(super) fn given(self) -> Option<String> {
        self.name.or(self.builder)
    }
}

/// One node's socket.
#[derive(Debug, Clone)]
pub(super) struct NodeApi {
    builder: String,
    node: String,
    platforms: Vec<String>,
    channel: Channel,
}

impl NodeApi {
    async fn connect(builder: &str, node: &Node) -> Result<Self, Failure> {
        let path = PathBuf::from(&node.socket);
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://buildkit.invalid").connect_timeout(GREETING);
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
            Failure::other(crate::report::chain(&error)).doing(format!("connect to {}", node.socket))
        })?;
        let platforms = super::platforms::all(&node.platforms, &node.worker_platforms);
        Ok(Self { builder: builder.to_owned(), node: node.name.clone(), platforms, channel })
    }

    pub(super) fn builder(&self) -> &str {
        &self.builder
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The first platform of its machines, when known.
    pub(super) fn default_platform(&self) -> &str {
        self.platforms.first().map_or("", String::as_str)
    }

    /// A cache may have so many records that their list is longer than tonic's limit.
    pub(super) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(super) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }
}

/// The builder that is meant, and all of its nodes.
pub(super) async fn connect(context: &Context, given: Option<String>) -> Result<(Builder, Vec<NodeApi>), Failure> {
    let name = context.builder(given);
    let builder = context.client().await?.inspect(&name).await?;
    let nodes = builder.nodes.iter().map(|node| NodeApi::connect(&builder.name, node));
    let nodes = try_join_all(nodes).await?;
    Ok((builder, nodes))
}

/// Whether the daemon answers on the socket of each node: what it says needs no pod.
pub(super) async fn sockets(builder: &Builder) -> Vec<(Node, Result<(), Failure>)> {
    let asking = builder.nodes.iter().map(|node| async move {
        let asked = async {
            let mut control = NodeApi::connect(&builder.name, node).await?.control();
            let answer = tokio::time::timeout(GREETING, control.list_workers(ListWorkersRequest::default())).await;
            match answer {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(status)) => Err(Failure::refused(status).doing(format!("speak through {}", node.socket))),
                Err(_) => Err(Failure::no_answer(GREETING).doing(format!("speak through {}", node.socket))),
            }
        };
        (node.clone(), asked.await)
    });
    join_all(asking).await
}

/// One answer, bounded; what the daemon warns of is said.
pub(super) async fn asked<T>(
    context: &Context,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(response)) => {
            warn(context, response.metadata());
            Ok(response.into_inner())
        }
        Ok(Err(status)) => Err(Failure::refused(status)),
        Err(_) => Err(Failure::no_answer(ANSWER)),
    }
}

/// The next message of an answer in pieces; `None` at its end, when what the daemon warns of is said.
///
/// Not bounded here: the daemon ends the answer when a pod falls silent.
pub(super) async fn next<T>(context: &Context, stream: &mut tonic::Streaming<T>) -> Result<Option<T>, Failure> {
    if let Some(message) = stream.message().await.map_err(Failure::refused)? {
        return Ok(Some(message));
    }
    if let Ok(Some(trailers)) = stream.trailers().await {
        warn(context, &trailers);
    }
    Ok(None)
}

fn warn(context: &Context, metadata: &MetadataMap) {
    for warning in metadata.get_all(WARNING) {
        if let Ok(text) = warning.to_str() {
            context.warning(&super::table::printable(&unescaped(text)));
        }
    }
}

/// A trailer holds ASCII: all else stands there as `%` and two digits.
fn unescaped(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_readable() {
        for (text, wanted) in
            [("a %E2%80%9Eb%E2%80%9C", "a „b“"), ("100%", "100%"), ("%zz %4", "%zz %4"), ("%", "%"), ("", "")]
        {
            assert_eq!(unescaped(text), wanted);
        }
    }
}
