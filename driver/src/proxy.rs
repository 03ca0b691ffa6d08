//! The front: an HTTP/2 server on each socket that understands the gRPC calls passing through it.
//!
//! SETTINGS go out before any pod exists, and waiting happens in each call: no client's dial can time out while a pod
//! starts. Each build of a connection goes to a pod of its own choice, with all calls that belong to it.

mod answers;
mod attach;
mod bridge;
mod build;
mod builds;
mod client;
mod clues;
mod content;
mod fanout;
mod finished;
mod forward;
mod handles;
mod history;
mod outcome;
mod ping;
mod placed;
mod route;
mod session;
mod sessions;
mod solve;
mod status;
mod turns;
mod unary;
mod vertex;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use self::attach::Attachments;
use self::builds::Builds;
use self::client::Client;
pub use self::finished::{Finished, FinishedBuilds};
use self::route::Route;
use self::sessions::Sessions;
use crate::fleet::NodeFleet;
use crate::shutdown::Shutdown;
use crate::wire;

/// A client that does not greet at once is no gRPC client.
const GREETING: Duration = Duration::from_secs(10);

/// What all sockets of one node share.
#[derive(Debug)]
pub struct NodeProxy {
    fleet: Arc<NodeFleet>,
    finished: Arc<Finished>,
    retries: bool,
    builds: Arc<Builds>,
    sessions: Arc<Sessions>,
    attachments: Attachments,
}

impl NodeProxy {
    /// `fleet` is the node that the sockets stand for, `finished` what is known of its builds. With `retries`, a build whose
    /// pod ends is begun anew on another one where that can be done.
    pub fn new(fleet: Arc<NodeFleet>, finished: Arc<Finished>, retries: bool) -> Self {
        let (builds, sessions, attachments) = Default::default();
        Self { fleet, finished, retries, builds, sessions, attachments }
    }

    fn fleet(&self) -> &Arc<NodeFleet> {
        &self.fleet
    }

    /// The builds of this node that have ended.
    pub fn finished(&self) -> &Finished {
        &self.finished
    }

    fn retries(&self) -> bool {
        self.retries
    }

    fn builds(&self) -> &Arc<Builds> {
        &self.builds
    }

    fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    fn attachments(&self) -> &Attachments {
        &self.attachments
    }
}

/// Serves one client connection until it ends.
pub async fn serve(stream: UnixStream, node: Arc<NodeProxy>, shutdown: Shutdown) {
    let client = Arc::new(Client::new(&stream, node, shutdown.clone()));
    let node = client.node().fleet().name();
    let greeting = wire::serve(wire::buffered(stream));
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(GREETING, greeting) => greeted,
        () = shutdown.draining() => return,
    };
    let mut connection = match greeted {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%node, %error, "a client does not speak HTTP/2");
            return;
        }
        Err(_) => {
            tracing::debug!(%node, "a client connected and said nothing");
            return;
        }
    };
    let mut calls = JoinSet::new();
    let mut leaving = false;
    loop {
        // A build opens new calls all the time: the connection is not told to end before the last of them has.
        if shutdown.is_draining() && calls.is_empty() && !leaving {
            leaving = true;
            connection.graceful_shutdown();
        }
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    calls.spawn(call(request, respond, Arc::clone(&client)));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a client's connection failed");
                    break;
                }
                None => break,
            },
            () = shutdown.draining(), if calls.is_empty() && !leaving => {}
            Some(ended) = calls.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a call panicked");
                }
            }
        }
    }
    // The client is gone: what still runs on its behalf ends now, so that pods hear of it at once.
    calls.shutdown().await;
}

async fn call(request: Request<RecvStream>, respond: SendResponse<Bytes>, client: Arc<Client>) {
    let route = Route::of(request.uri().path());
    tracing::debug!(path = request.uri().path(), ?route, timeout = ?request.headers().get("grpc-timeout"), "call");
    let fleet = client.node().fleet();
    match route {
        Route::Health => answers::health(request, respond),
        Route::Info => answers::info(respond, fleet),
        Route::ListWorkers => answers::list_workers(request, respond, &client).await,
        Route::DiskUsage => fanout::disk_usage(request, respond, &client.archive()).await,
        Route::Prune => fanout::prune(request, respond, &client.archive()).await,
        Route::ListenHistory => history::listen(request, respond, &client.archive()).await,
        Route::UpdateHistory => history::update(request, respond, &client.archive()).await,
        Route::Content => content::serve(request, respond, &client.archive()).await,
        Route::Traces if !client.has_pod() => answers::send(respond, Some(wire::message(&()))),
        Route::Session => session::serve(request, respond, &client).await,
        Route::Solve => solve::serve(request, respond, &client).await,
        Route::Status => status::serve(request, respond, &client).await,
        Route::Bridge => bridge::serve(request, respond, &client).await,
        Route::Traces | Route::Other => forward::to_pod(request, respond, &client).await,
    }
}
