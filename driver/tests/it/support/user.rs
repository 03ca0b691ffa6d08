//! A client of BuildKit: one connection to a socket, and the session in which it is the server.

use std::path::Path;
use std::pin::Pin;

use buildfleet_proto::buildkit::control_client::ControlClient;
use buildfleet_proto::buildkit::control_server::{Control, ControlServer};
use buildfleet_proto::buildkit::*;
use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// One HTTP/2 connection to a socket of the daemon.
pub(crate) async fn connect(socket: &Path) -> ControlClient<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .http2_max_header_list_size(16 << 20)
        .connect_with_connector(connector)
        .await
        .unwrap();
    ControlClient::new(channel).max_decoding_message_size(64 << 20)
}

/// A session that lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct UserSession {
    tasks: JoinSet<Result<(), Status>>,
    greeted: tokio::sync::oneshot::Receiver<()>,
}

impl UserSession {
    /// Opens the session `id` on `client`'s connection.
    pub(crate) fn open(mut client: ControlClient<Channel>, id: &str) -> Self {
        let (near, far) = tokio::io::duplex(256 << 10);
        let (mut reader, mut writer) = tokio::io::split(far);
        let (sender, receiver) = mpsc::channel(4);
        let (greeting, greeted) = tokio::sync::oneshot::channel();
        let mut request = Request::new(ReceiverStream::new(receiver));
        let metadata = request.metadata_mut();
        metadata.insert("x-docker-expose-session-uuid", id.parse().unwrap());
        for method in ["/moby.filesync.v1.FileSync/DiffCopy", "/grpc.health.v1.Health/Check"] {
            metadata.append("x-docker-expose-session-grpc-method", method.parse().unwrap());
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let incoming = tokio_stream::once(Ok::<_, std::io::Error>(near)).chain(tokio_stream::pending());
            let _ = Server::builder().add_service(ControlServer::new(Context)).serve_with_incoming(incoming).await;
            Ok(())
        });
        tasks.spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if sender.send(BytesMessage { data: buffer[..count].to_vec() }).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        tasks.spawn(async move {
            let mut greeting = Some(greeting);
            let mut input = client.session(request).await?.into_inner();
            while let Some(message) = input.next().await {
                let _ = writer.write_all(&message?.data).await;
                if let Some(greeting) = greeting.take() {
                    let _ = greeting.send(());
                }
            }
            Err(Status::ok("the session has ended"))
        });
        Self { tasks, greeted }
    }

    /// Resolves when the daemon has sent the first bytes of its HTTP/2 preface.
    pub(crate) async fn greeted(&mut self) {
        (&mut self.greeted).await.unwrap();
    }

    /// The status with which the daemon ended the session.
    pub(crate) async fn ended(mut self) -> Status {
        loop {
            match self.tasks.join_next().await.expect("the session's task is gone").unwrap() {
                Ok(()) => {}
                Err(status) => return status,
            }
        }
    }
}

/// What the pod may call in a session: `Status` stands for the streams of a build context.
#[derive(Debug)]
struct Context;

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Context {
    type StatusStream = Boxed<StatusResponse>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let mib: usize = request.into_inner().r#ref.parse().unwrap();
        let piece = || {
            let log = VertexLog { msg: vec![1; 1 << 20], ..VertexLog::default() };
            Ok(StatusResponse { logs: vec![log], ..StatusResponse::default() })
        };
        Ok(Response::new(Box::pin(tokio_stream::iter((0..mib).map(move |_| piece())))))
    }

    async fn solve(&self, _: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type SessionStream = Boxed<BytesMessage>;

    async fn session(&self, _: Request<Streaming<BytesMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn disk_usage(&self, _: Request<DiskUsageRequest>) -> Result<Response<DiskUsageResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type PruneStream = Boxed<UsageRecord>;

    async fn prune(&self, _: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        Err(Status::unimplemented(""))
    }

    type ListenBuildHistoryStream = Boxed<BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        _: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_build_history(
        &self,
        _: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
