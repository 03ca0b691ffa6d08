//! The front: an HTTP/2 server on each socket that understands the gRPC calls passing through it.

use std::sync::Arc;

use tokio::net::UnixStream;

use crate::fleet::NodeFleet;
use crate::shutdown::Shutdown;

/// Serves one client connection until it ends. `fleet` is the node that the socket stands for.
pub async fn serve(stream: UnixStream, fleet: Arc<NodeFleet>, shutdown: Shutdown) {
    let _ = (stream, fleet, shutdown);
}
