//! One socket and the node that it stands for now.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::owned::Owned;
use crate::builder::NodeName;
use crate::proxy::{self, NodeProxy};
use crate::shutdown::Shutdown;
use crate::socket::{BindError, PrivateSocket};

/// When a node was last used by a client.
pub(super) type Activity = watch::Sender<Option<SystemTime>>;

/// Where new connections go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) node: NodeName,
    pub(super) proxy: Arc<NodeProxy>,
    pub(super) activity: Arc<Activity>,
}

/// A bound socket. It stays while its node is replaced by another.
#[derive(Debug)]
pub(super) struct Front {
    path: PathBuf,
    target: watch::Sender<Option<Target>>,
    accepting: Owned,
}

impl Front {
    /// Binds `path` and accepts until the daemon drains. Without a target, connections are closed at once.
    pub(super) async fn open(path: &Path, shutdown: &Shutdown) -> Result<Self, BindError> {
        let socket = PrivateSocket::bind(path).await?;
        let target = watch::Sender::new(None);
        let (aimed, shutdown) = (target.subscribe(), shutdown.clone());
        let accepting = Owned::spawn(|stop| async move {
            tokio::select! {
                () = accept(&socket, &aimed, &shutdown) => {}
                () = shutdown.draining() => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Self { path: path.to_owned(), target, accepting })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends connections to another node from now on.
    pub(super) fn aim(&self, target: Option<Target>) {
        self.target.send_replace(target);
    }

    /// Removes the socket; connections that are open go on.
    pub(super) async fn close(&self) {
        self.aim(None);
        self.accepting.end().await;
    }
}

async fn accept(socket: &PrivateSocket, aimed: &watch::Receiver<Option<Target>>, shutdown: &Shutdown) {
    loop {
        let (stream, peer) = socket.accept().await;
        let target = aimed.borrow().clone();
        if let Some(Target { node, proxy, activity }) = target {
            tracing::debug!(%node, pid = peer.pid, "a client connected");
            activity.send_replace(Some(SystemTime::now()));
            shutdown.spawn(proxy::serve(stream, proxy, shutdown.clone()));
        }
    }
}
