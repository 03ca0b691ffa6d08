//! The front: an HTTP/2 server on each socket that understands the gRPC calls passing through it.
//!
//! SETTINGS go out before any pod exists, and waiting happens in each call: no client's dial can time out while a pod
//! starts. A connection's calls go to one pod, chosen by its first call that needs one.

mod answers;
mod deframe;
mod forward;
mod ping;
mod place;
mod route;
mod session;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use self::place::Place;
use self::route::Route;
use crate::fleet::NodeFleet;
use crate::placement::StickyKey;
use crate::shutdown::Shutdown;
use crate::wire;

/// A client that does not greet at once is no gRPC client.
const GREETING: Duration = Duration::from_secs(10);

/// What all sockets of one node share.
#[derive(Debug)]
pub struct NodeProxy {
    fleet: Arc<NodeFleet>,
}

impl NodeProxy {
    /// `fleet` is the node that the sockets stand for.
    pub fn new(fleet: Arc<NodeFleet>) -> Self {
        Self { fleet }
    }
}

/// Serves one client connection until it ends.
pub async fn serve(stream: UnixStream, node: Arc<NodeProxy>, shutdown: Shutdown) {
    let fleet = Arc::clone(&node.fleet);
    let key = sticky_key(&stream);
    let greeting = wire::serve(wire::buffered(stream));
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(GREETING, greeting) => greeted,
        () = shutdown.draining() => return,
    };
    let mut connection = match greeted {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(node = %fleet.name(), %error, "a client does not speak HTTP/2");
            return;
        }
        Err(_) => {
            tracing::debug!(node = %fleet.name(), "a client connected and said nothing");
            return;
        }
    };
    let place = Arc::new(Place::new(fleet, key));
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
                    calls.spawn(call(request, respond, Arc::clone(&place)));
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

async fn call(request: Request<RecvStream>, respond: SendResponse<Bytes>, place: Arc<Place>) {
    let route = Route::of(request.uri().path());
    tracing::debug!(path = request.uri().path(), ?route, timeout = ?request.headers().get("grpc-timeout"), "call");
    match route {
        Route::Health => answers::health(request, respond),
        Route::Info => answers::info(respond, place.fleet()),
        Route::ListWorkers => answers::list_workers(request, respond, &place).await,
        Route::Ping => ping::serve(request, respond, &place).await,
        Route::CacheOrHistory if place.fleet().is_idle() => answers::nothing(respond, request.uri().path()),
        Route::Traces if !place.has_pod() => answers::nothing(respond, request.uri().path()),
        Route::Session => session::serve(request, respond, &place).await,
        Route::CacheOrHistory | Route::Traces | Route::Build => forward::to_pod(request, respond, &place).await,
    }
}

/// Where the client's process works, as the kernel tells it; empty when it does not.
fn sticky_key(stream: &UnixStream) -> StickyKey {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let directory = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).ok());
    directory.map_or_else(StickyKey::default, |directory| StickyKey::of_directory(&directory))
}
