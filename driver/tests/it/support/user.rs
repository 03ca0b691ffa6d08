//! A client of BuildKit: connections to a socket, and the calls that name a build.

pub(crate) mod build;
pub(crate) mod grpc;
pub(crate) mod offer;
pub(crate) mod plan;
pub(crate) mod raw;
pub(crate) mod session;

use std::net::Shutdown;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildfleet_proto::buildkit::control_client::ControlClient;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use self::raw::LARGEST;

/// grpc-go's own window, which BuildKit's clients begin with.
const WINDOW: u32 = 65_535;

/// Nothing in a test takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// One HTTP/2 connection to a socket of the daemon.
#[derive(Debug, Clone)]
pub(crate) struct User {
    channel: Channel,
    /// The same socket once more, to cut it.
    wire: Arc<Mutex<Option<BlockingStream>>>,
}

impl User {
    pub(crate) async fn connect(socket: &Path) -> Self {
        let wire = Arc::new(Mutex::new(None));
        let (socket, kept) = (socket.to_owned(), Arc::clone(&wire));
        let connector = tower::service_fn(move |_: http::Uri| {
            let (socket, kept) = (socket.clone(), Arc::clone(&kept));
            async move {
                let stream = UnixStream::connect(socket).await?.into_std()?;
                *kept.lock().unwrap() = Some(stream.try_clone()?);
                UnixStream::from_std(stream).map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://localhost")
            .http2_max_header_list_size(16 << 20)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(16 * WINDOW)
            .connect_with_connector(connector)
            .await
            .unwrap();
        Self { channel, wire }
    }

    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A call of LLBBridge on behalf of the build `ref`.
    pub(crate) async fn bridge(&self, r#ref: &str, method: &str, message: &impl Message) -> Result<Bytes, Status> {
        self.bridge_raw(&[r#ref], method, message.encode_to_vec().into()).await
    }

    /// The same with a message that is bytes already, and with as many builds named as one likes.
    pub(crate) async fn bridge_raw(&self, refs: &[&str], method: &str, message: Bytes) -> Result<Bytes, Status> {
        // BuildKit's client gives this one call a limit (`frontend/gateway/grpcclient`, v0.33).
        let limit = (method == "Ping").then_some(Duration::from_secs(15));
        self.call_bridge(refs, method, message, limit).await
    }

    /// The same with a limit that is told.
    pub(crate) async fn bridge_within(
        &self,
        r#ref: &str,
        method: &str,
        message: Bytes,
        limit: Duration,
    ) -> Result<Bytes, Status> {
        self.call_bridge(&[r#ref], method, message, Some(limit)).await
    }

    async fn call_bridge(
        &self,
        refs: &[&str],
        method: &str,
        message: Bytes,
        limit: Option<Duration>,
    ) -> Result<Bytes, Status> {
        let mut request = Request::new(message);
        for r#ref in refs {
            request.metadata_mut().append("buildkit-controlapi-buildid", r#ref.parse().unwrap());
        }
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        let path = format!("/moby.buildkit.v1.frontend.LLBBridge/{method}");
        let called = tokio::time::timeout(LIMIT, raw::unary(&self.channel, &path, request)).await;
        let hangs = |_| Err(Status::deadline_exceeded(format!("LLBBridge.{method} hangs")));
        called.unwrap_or_else(hangs).map(tonic::Response::into_inner)
    }

    /// As if the process were killed: the connection is gone at once, without a word.
    pub(crate) fn cut(&self) {
        let wire = self.wire.lock().unwrap().take().expect("cut once");
        // The daemon may have been faster.
        let _ = wire.shutdown(Shutdown::Both);
    }
}

/// One connection, for the calls of the control API alone.
pub(crate) async fn connect(socket: &Path) -> ControlClient<Channel> {
    User::connect(socket).await.control()
}
