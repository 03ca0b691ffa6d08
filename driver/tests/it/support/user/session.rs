//! A session: the call in which the user is the server, and HTTP/2 as Go's server speaks it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use buildfleet_proto::buildkit::BytesMessage;
use buildfleet_proto::health::{HealthCheckResponse, health_check_response::ServingStatus};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::User;
use super::grpc::{self, Messages};
use super::offer::{CREDENTIALS, ECHO, FILE_SEND, FILE_SYNC, Given, HEALTH, Offer, POLICY};

/// What Go's HTTP/2 server gives a stream and a connection, and a header list.
const WINDOW: u32 = 1 << 20;

/// How long an end may take that was asked for.
const END: Duration = Duration::from_secs(5);

/// A session that lasts until it is dropped, which breaks it off, or closed.
#[derive(Debug)]
pub(crate) struct UserSession {
    tasks: JoinSet<Option<Result<(), Status>>>,
    /// The server inside; without it the session half-closes.
    server: AbortHandle,
    greeted: oneshot::Receiver<()>,
    pub(crate) given: Arc<Given>,
}

impl UserSession {
    /// Opens the session on the user's connection, after `delay`.
    pub(crate) fn open(user: &User, offer: Offer, delay: Duration) -> Self {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (mut reader, mut writer) = tokio::io::split(far);
        let (sender, receiver) = mpsc::channel(4);
        let (greeting, greeted) = oneshot::channel();
        let given = Arc::new(Given::default());
        let metadata = MetadataMap::from_headers(offer.headers());
        let request = tonic::Request::from_parts(metadata, http::Extensions::new(), ReceiverStream::new(receiver));
        let mut tasks = JoinSet::new();
        let serving = serve(near, Arc::new(offer), Arc::clone(&given));
        let server = tasks.spawn(async move {
            serving.await;
            None
        });
        tasks.spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if sender.send(BytesMessage { data: buffer[..count].to_vec() }).await.is_err() {
                    break;
                }
            }
            None
        });
        let mut control = user.control();
        tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            let mut greeting = Some(greeting);
            let mut input = match control.session(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return Some(Err(status)),
            };
            loop {
                match input.next().await {
                    None => return Some(Ok(())),
                    Some(Err(status)) => return Some(Err(status)),
                    Some(Ok(message)) => {
                        // A server that was ended reads no more; the rest is drained, as Go's client does.
                        let _ = writer.write_all(&message.data).await;
                        greeting.take().map(|greeting| greeting.send(()));
                    }
                }
            }
        });
        Self { tasks, server, greeted, given }
    }

    /// Resolves when the daemon has sent the first bytes of its HTTP/2 preface.
    pub(crate) async fn greeted(&mut self) {
        (&mut self.greeted).await.unwrap();
    }

    /// Ends the session as BuildKit's client does: half-closes it and waits for the daemon's half.
    pub(crate) async fn close(self) -> Result<(), Status> {
        self.server.abort();
        let mut tasks = self.tasks;
        let end = async {
            loop {
                match tasks.join_next().await {
                    Some(Ok(Some(end))) => return end,
                    Some(Ok(None)) => {}
                    // The server that was aborted.
                    Some(Err(error)) if error.is_cancelled() => {}
                    other => panic!("the session's task is gone: {other:?}"),
                }
            }
        };
        let late = || Err(Status::deadline_exceeded("the daemon does not end a session that the user has half-closed"));
        tokio::time::timeout(END, end).await.unwrap_or_else(|_| late())
    }
}

async fn serve(stream: DuplexStream, offer: Arc<Offer>, given: Arc<Given>) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_header_list_size(WINDOW);
    builder.max_frame_size(WINDOW).max_concurrent_streams(250);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        calls.spawn(call(request, respond, Arc::clone(&offer), Arc::clone(&given)));
    }
}

async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, offer: Arc<Offer>, given: Arc<Given>) {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    given.called(path, &head.headers);
    let messages = Messages::new(body);
    let done = match path {
        FILE_SYNC => context(messages, &mut respond, &offer, &given).await,
        FILE_SEND => export(messages, &mut respond, &head.headers, &offer, &given).await,
        HEALTH => {
            given.checks.fetch_add(1, Ordering::SeqCst);
            if !offer.healthy {
                std::future::pending::<()>().await;
            }
            let serving = HealthCheckResponse { status: ServingStatus::Serving.into() };
            answer(&mut respond, &serving.encode_to_vec()).await
        }
        POLICY => answer(&mut respond, &[]).await,
        ECHO => echo(messages, &mut respond).await,
        CREDENTIALS => refuse(messages, &mut respond).await,
        _ => grpc::begin(&mut respond).map(|answer| grpc::finish(answer, &Status::unimplemented("unknown method"))),
    };
    // A pod that breaks off is the test's business, which sees it at the pod.
    drop(done);
}

async fn answer(respond: &mut SendResponse<Bytes>, message: &[u8]) -> Result<(), Status> {
    let mut answer = grpc::begin(respond)?;
    grpc::send(&mut answer, grpc::framed(message), |_| {}).await?;
    grpc::finish(answer, &Status::new(Code::Ok, ""));
    Ok(())
}

/// Sends the whole directory once the pod has said which, then an empty message; ends when the pod has half-closed.
async fn context(
    mut asked: Messages,
    respond: &mut SendResponse<Bytes>,
    offer: &Offer,
    given: &Given,
) -> Result<(), Status> {
    asked.next().await?;
    let mut answer = grpc::begin(respond)?;
    let mut left = offer.context;
    while left > 0 {
        let piece = left.min(offer.piece);
        left -= piece;
        let sent = |bytes| _ = given.sent.fetch_add(bytes, Ordering::SeqCst);
        grpc::send(&mut answer, grpc::framed(&vec![b'c'; piece]), sent).await?;
    }
    grpc::send(&mut answer, grpc::framed(&[]), |_| {}).await?;
    while asked.next().await?.is_some() {}
    grpc::finish(answer, &Status::new(Code::Ok, ""));
    Ok(())
}

async fn export(
    mut pieces: Messages,
    respond: &mut SendResponse<Bytes>,
    headers: &HeaderMap,
    offer: &Offer,
    given: &Given,
) -> Result<(), Status> {
    let answer = grpc::begin(respond)?;
    if !offer.takes_exports {
        std::future::pending::<()>().await;
    }
    let exporter = headers.get("buildkit-attachable-exporter-id").map_or("", |id| id.to_str().unwrap()).to_owned();
    while let Some(piece) = pieces.next().await? {
        given.exported(&exporter, BytesMessage::decode(piece).unwrap().data.len());
    }
    grpc::finish(answer, &Status::new(Code::Ok, ""));
    Ok(())
}

async fn echo(mut messages: Messages, respond: &mut SendResponse<Bytes>) -> Result<(), Status> {
    let mut answer = grpc::begin(respond)?;
    while let Some(message) = messages.next().await? {
        grpc::send(&mut answer, grpc::framed(&message), |_| {}).await?;
    }
    grpc::finish(answer, &Status::new(Code::Ok, ""));
    Ok(())
}

/// Fails with details of as many bytes as the request's message says in decimal digits.
async fn refuse(mut messages: Messages, respond: &mut SendResponse<Bytes>) -> Result<(), Status> {
    let length = messages.next().await?.unwrap_or_default();
    let length = std::str::from_utf8(&length).unwrap().parse().unwrap();
    let answer = grpc::begin(respond)?;
    let status = Status::with_details(Code::PermissionDenied, "no credentials", vec![7_u8; length].into());
    grpc::finish(answer, &status);
    Ok(())
}
