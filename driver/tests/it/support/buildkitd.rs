//! A `buildkitd` in this process: the control API over a unix socket, sessions included.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buildfleet_proto::buildkit::control_client::ControlClient;
use buildfleet_proto::buildkit::control_server::{Control, ControlServer};
use buildfleet_proto::buildkit::*;
use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Runs until it is killed or dropped.
#[derive(Debug)]
pub(crate) struct FakeBuildkitd {
    pub(crate) socket: PathBuf,
    pub(crate) seen: Arc<Seen>,
    server: AbortHandle,
    tasks: JoinSet<()>,
}

/// What clients did.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Metadata of the sessions, by their id.
    sessions: watch::Sender<HashMap<String, tonic::metadata::MetadataMap>>,
    channels: watch::Sender<HashMap<String, Channel>>,
    pub(crate) solving: AtomicUsize,
    pub(crate) open_sessions: AtomicUsize,
    pub(crate) connections: AtomicUsize,
}

impl Seen {
    pub(crate) fn metadata(&self, session: &str) -> tonic::metadata::MetadataMap {
        self.sessions.borrow()[session].clone()
    }
}

impl FakeBuildkitd {
    pub(crate) fn start(name: &str, directory: &Path) -> Self {
        let socket = directory.join(format!("{name}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Seen::default());
        let service = Service { name: name.to_owned(), seen: Arc::clone(&seen) };
        let counted = Arc::clone(&seen);
        let incoming = UnixListenerStream::new(listener).map(move |stream| {
            counted.connections.fetch_add(1, Ordering::SeqCst);
            stream
        });
        let mut tasks = JoinSet::new();
        let server = tasks.spawn(async move {
            let control = ControlServer::new(service).max_decoding_message_size(16 << 20);
            Server::builder().add_service(control).serve_with_incoming(incoming).await.unwrap();
        });
        Self { socket, seen, server, tasks }
    }

    /// As if the process were killed: every connection breaks.
    pub(crate) async fn kill(mut self) {
        self.server.abort();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[derive(Debug)]
struct Service {
    name: String,
    seen: Arc<Seen>,
}

/// Counts what is open for as long as it lives.
struct Open(Arc<Seen>, fn(&Seen) -> &AtomicUsize);

impl Open {
    fn new(seen: &Arc<Seen>, which: fn(&Seen) -> &AtomicUsize) -> Self {
        which(seen).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(seen), which)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        let version = BuildkitVersion { version: "v0.33.1".to_owned(), ..BuildkitVersion::default() };
        let platform = Platform { os: "linux".to_owned(), architecture: "arm64".to_owned(), ..Platform::default() };
        let record = WorkerRecord {
            id: self.name.clone(),
            platforms: vec![platform],
            buildkit_version: Some(version),
            ..WorkerRecord::default()
        };
        Ok(Response::new(ListWorkersResponse { record: vec![record] }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Err(Status::internal("the daemon answers this itself"))
    }

    /// What happens is named by the request's frontend.
    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let _open = Open::new(&self.seen, |seen| &seen.solving);
        let request = request.into_inner();
        let mut response = HashMap::from([("pod".to_owned(), self.name.clone())]);
        match request.frontend.as_str() {
            "" => {}
            "hang" => std::future::pending().await,
            "slow" => tokio::time::sleep(Duration::from_secs(1)).await,
            "fail" => {
                let details = vec![7_u8; 100 << 10];
                return Err(Status::with_details(Code::Unknown, "exit code: 1 „ä“", details.into()));
            }
            // Reads the named number of MiB from the user's end, over the session.
            "context" => {
                let mut channels = self.seen.channels.subscribe();
                let ready = channels.wait_for(|channels| channels.contains_key(&request.session));
                let channel = tokio::time::timeout(Duration::from_secs(5), ready)
                    .await
                    .map_err(|_| Status::not_found(format!("no active session for {}", request.session)))?
                    .unwrap()[&request.session]
                    .clone();
                let size = request.frontend_attrs["mib"].clone();
                let asked = StatusRequest { r#ref: size };
                let mut client = ControlClient::new(channel).max_decoding_message_size(16 << 20);
                let mut pieces = client.status(asked).await?.into_inner();
                let mut bytes = 0;
                while let Some(piece) = pieces.next().await {
                    bytes += piece?.logs.iter().map(|log| log.msg.len()).sum::<usize>();
                }
                response.insert("bytes".to_owned(), bytes.to_string());
            }
            other => return Err(Status::invalid_argument(format!("no frontend {other}"))),
        }
        Ok(Response::new(SolveResponse { exporter_response: response }))
    }

    type SessionStream = Boxed<BytesMessage>;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let metadata = request.metadata().clone();
        let id = metadata.get("x-docker-expose-session-uuid").unwrap().to_str().unwrap().to_owned();
        let (near, far) = tokio::io::duplex(256 << 10);
        let (sender, receiver) = mpsc::channel(4);
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut input = request.into_inner();
        let open = Open::new(&self.seen, |seen| &seen.open_sessions);
        tokio::spawn(async move {
            let _open = open;
            while let Some(Ok(message)) = input.next().await {
                if writer.write_all(&message.data).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if sender.send(Ok(BytesMessage { data: buffer[..count].to_vec() })).await.is_err() {
                    break;
                }
            }
        });
        let near = std::sync::Mutex::new(Some(near));
        let connector = tower::service_fn(move |_: http::Uri| {
            let near = near.lock().unwrap().take();
            async move { near.map(TokioIo::new).ok_or_else(|| std::io::Error::other("only one connection allowed")) }
        });
        let seen = Arc::clone(&self.seen);
        tokio::spawn(async move {
            let endpoint = Endpoint::from_static("http://localhost");
            if let Ok(channel) = endpoint.connect_with_connector(connector).await {
                seen.channels.send_modify(|channels| drop(channels.insert(id.clone(), channel)));
                seen.sessions.send_modify(|sessions| drop(sessions.insert(id, metadata)));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type StatusStream = Boxed<StatusResponse>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let vertex = Vertex { digest: request.into_inner().r#ref, name: self.name.clone(), ..Vertex::default() };
        let status = StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(status)))))
    }

    async fn disk_usage(&self, _: Request<DiskUsageRequest>) -> Result<Response<DiskUsageResponse>, Status> {
        let record = UsageRecord { id: self.name.clone(), size: 1, ..UsageRecord::default() };
        Ok(Response::new(DiskUsageResponse { record: vec![record] }))
    }

    type PruneStream = Boxed<UsageRecord>;

    async fn prune(&self, _: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    type ListenBuildHistoryStream = Boxed<BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        _: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn update_build_history(
        &self,
        _: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        Ok(Response::new(UpdateBuildHistoryResponse::default()))
    }
}
