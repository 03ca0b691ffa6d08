//! Sessions at the pod's end: found by id, called over HTTP/2 as grpc-go does, checked for health, given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buildfleet_proto::buildkit::BytesMessage;
use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use prost::Message;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::seen::{Event, Open, Seen};
use crate::support::user::grpc::{self, Messages};
use crate::support::user::offer::{FILE_SEND, FILE_SYNC, HEALTH};

/// grpc-go's own.
const WINDOW: u32 = 65_535;

/// BuildKit asks for health this often, and gives up after the second failure of 15 s.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(15);

/// A session that was opened and is not closed yet.
#[derive(Debug)]
pub(super) struct Attached {
    id: String,
    metadata: HeaderMap,
    requests: SendRequest<Bytes>,
    /// Of two sessions with one id the later one counts.
    number: u64,
}

/// All sessions of a pod.
#[derive(Debug)]
pub(super) struct Sessions {
    seen: Arc<Seen>,
    open: watch::Sender<BTreeMap<String, Arc<Attached>>>,
    count: AtomicU64,
}

impl Sessions {
    pub(super) fn new(seen: Arc<Seen>) -> Self {
        Self { seen, open: watch::Sender::default(), count: AtomicU64::default() }
    }

    /// Serves one session until it ends.
    pub(super) async fn hold(self: Arc<Self>, metadata: HeaderMap, stream: DuplexStream) {
        let _open = Open::new(&self.seen, |seen| &seen.open_sessions);
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
        builder.max_header_list_size(16 << 20);
        let Ok((requests, connection)) = builder.handshake::<_, Bytes>(stream).await else { return };
        let id = metadata["x-docker-expose-session-uuid"].to_str().unwrap().to_owned();
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let attached = Arc::new(Attached { id: id.clone(), metadata: metadata.clone(), requests, number });
        self.seen.happens(Event::Attached(id.clone(), metadata));
        self.open.send_modify(|open| drop(open.insert(id.clone(), Arc::clone(&attached))));
        tokio::select! {
            _ = connection => {}
            () = attached.fails() => {}
        }
        self.open.send_modify(|open| {
            if open.get(&id).is_some_and(|present| present.number == number) {
                open.remove(&id);
            }
        });
    }

    /// The session, also when it comes a moment from now.
    pub(super) async fn find(&self, id: &str, patience: Duration) -> Result<Arc<Attached>, Status> {
        if id.is_empty() {
            return Err(Status::unknown("no active sessions"));
        }
        let mut open = self.open.subscribe();
        let there = tokio::time::timeout(patience, open.wait_for(|open| open.contains_key(id))).await;
        let absent = || Status::unknown(format!("no active session for {id}: context deadline exceeded"));
        there.map(|open| Arc::clone(&open.unwrap()[id])).map_err(|_| absent())
    }
}

impl Attached {
    /// Begins a call that the session's metadata offers.
    async fn call(
        &self,
        method: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Status> {
        let offered = self.metadata.get_all("x-docker-expose-session-grpc-method");
        if !offered.iter().any(|offered| offered.as_bytes().eq_ignore_ascii_case(method.as_bytes())) {
            return Err(Status::unknown(format!("method {method} not supported by the client {}", self.id)));
        }
        let mut request = Request::post(format!("http://localhost{method}")).body(()).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let mut requests = self.requests.clone().ready().await.map_err(|error| grpc::broken(&error))?;
        requests.send_request(request, false).map_err(|error| grpc::broken(&error))
    }

    /// One message there and all that comes back.
    pub(super) async fn ask(&self, method: &str, message: &[u8]) -> Result<Vec<Bytes>, Status> {
        let (response, mut asking) = self.call(method, &[]).await?;
        let sending = async {
            grpc::send(&mut asking, grpc::framed(message), |_| {}).await?;
            grpc::half_close(&mut asking);
            Ok(())
        };
        let receiving = async {
            let mut answers = begun(response).await?;
            let mut told = Vec::new();
            while let Some(answer) = answers.next().await? {
                told.push(answer);
            }
            ended(answers).await?;
            Ok(told)
        };
        tokio::try_join!(sending, receiving).map(|((), told)| told)
    }

    /// Reads a local directory of the user's; `read` hears of each piece. Half-closes last, as BuildKit does.
    pub(super) async fn read_directory(&self, name: &str, read: impl Fn(usize)) -> Result<(), Status> {
        let (mut pieces, mut asking) = self.open_directory(name).await?;
        loop {
            match pieces.next().await? {
                None => {
                    return Err(ended(pieces).await.err().unwrap_or_else(|| Status::internal("a directory was cut")));
                }
                Some(piece) if piece.is_empty() => break,
                Some(piece) => read(piece.len()),
            }
        }
        grpc::half_close(&mut asking);
        while pieces.next().await?.is_some() {}
        ended(pieces).await
    }

    /// Asks for a local directory.
    pub(super) async fn open_directory(&self, name: &str) -> Result<(Messages, SendStream<Bytes>), Status> {
        let headers = [("dir-name", name), ("include-patterns", "a"), ("include-patterns", "b"), ("followpaths", "c")];
        let (response, mut asking) = self.call(FILE_SYNC, &headers).await?;
        grpc::send(&mut asking, grpc::framed(b"which files are there?"), |_| {}).await?;
        Ok((begun(response).await?, asking))
    }

    /// Sends an exporter's output to the user; `sent` hears of each piece that was handed over. At the `end`, if there is
    /// one, it stops and says so.
    pub(super) async fn export(
        &self,
        exporter: usize,
        bytes: usize,
        end: Option<(usize, &CancellationToken)>,
        sent: impl Fn(usize),
    ) -> Result<(), Status> {
        let id = exporter.to_string();
        let (response, mut sending) = self.call(FILE_SEND, &[("buildkit-attachable-exporter-id", &id)]).await?;
        let mut left = bytes;
        while left > 0 {
            if let Some((end, reached)) = end
                && bytes - left >= end
            {
                reached.cancel();
                return std::future::pending().await;
            }
            let data = vec![b'e'; left.min(32 << 10)];
            left -= data.len();
            let piece = BytesMessage { data }.encode_to_vec();
            grpc::send(&mut sending, grpc::framed(&piece), &sent).await?;
        }
        grpc::half_close(&mut sending);
        let mut answers = begun(response).await?;
        while answers.next().await?.is_some() {}
        ended(answers).await
    }

    /// Resolves when the user's end is found to be ill.
    async fn fails(&self) {
        let custom = self.metadata.get("x-buildkit-session-health-custom-timeout");
        let custom = custom.and_then(|value| value.to_str().ok()?.parse().ok().map(Duration::from_millis));
        let custom = custom.map(|custom| custom.max(Duration::from_secs(1)));
        let (interval, timeout, threshold) =
            custom.map_or((HEALTH_INTERVAL, HEALTH_TIMEOUT, 2), |custom| (custom, custom, 1));
        let mut failures = 0;
        while failures < threshold {
            tokio::time::sleep(interval).await;
            match tokio::time::timeout(timeout, self.ask(HEALTH, &[])).await {
                Ok(Ok(_)) => failures = 0,
                Ok(Err(_)) | Err(_) => failures += 1,
            }
        }
    }
}

/// The answer's messages, once it has begun.
async fn begun(response: ResponseFuture) -> Result<Messages, Status> {
    let response = response.await.map_err(|error| grpc::broken(&error))?;
    if response.body().is_end_stream() {
        grpc::verdict(response.headers())?;
    }
    Ok(Messages::new(response.into_body()))
}

async fn ended(messages: Messages) -> Result<(), Status> {
    let told = messages.trailers().await?;
    match grpc::verdict(&told) {
        Err(status) if status.code() == Code::Ok => Ok(()),
        verdict => verdict,
    }
}
