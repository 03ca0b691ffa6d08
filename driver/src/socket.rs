//! Owner-only unix sockets. Whoever reaches such a socket may run builds as this user, so it is kept like a credential.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

mod directory;

pub use directory::{DirectoryError, private_directory};

/// How long whoever holds a socket may take to answer the probe; not answering at all counts as holding it.
const PROBE: Duration = Duration::from_secs(1);

/// How long another process may be in the middle of binding in the same directory.
const TURN: Duration = Duration::from_secs(5);

/// The pause after an accept that failed, as when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Directory(DirectoryError),
    #[error("socket {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("{} is not a socket and is not removed", .0.display())]
    Foreign(PathBuf),
    #[error("failed to find out whether socket {} is in use", path.display())]
    Probe {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to bind socket {}", path.display())]
    Bind {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    /// Not known on every system.
    pub pid: Option<i32>,
}

/// A listening unix socket that only its owner and root can use.
#[derive(Debug)]
pub struct PrivateSocket {
    listener: UnixListener,
    owner: u32,
    /// Ours to remove; `None` when somebody else made the socket and handed it over.
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl PrivateSocket {
    /// Binds `path`; its directory is made when it does not exist. A socket that nobody listens on is replaced.
    ///
    /// # Errors
    /// When the directory is not private, when the socket is in use, or when something else is in its place.
    pub async fn bind(path: &Path) -> Result<Self, BindError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        private_directory(directory).map_err(BindError::Directory)?;
        let failed = |source| BindError::Bind { path: path.to_owned(), source };
        // Two processes that both found the same stale socket would each remove the other's new one.
        let _turn = timeout(TURN, directory::lock(directory))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        clear(path).await?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Until here the umask decided, but nobody else can enter the directory.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let made = fs::symlink_metadata(path).map_err(failed)?;
        let file = Some(SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() });
        Ok(Self { listener, owner: directory::owner(), file })
    }

    /// A socket that was bound by somebody else, as systemd does; it is not removed in the end.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn inherited(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, owner: directory::owner(), file: None })
    }

    /// The next connection of the owner or of root. Others are closed and logged; what fails for a while is logged and
    /// tried again.
    pub async fn accept(&self) -> (UnixStream, Peer) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(cred) if may_enter(cred.uid(), self.owner) => {
                    return (stream, Peer { uid: cred.uid(), pid: cred.pid() });
                }
                Ok(cred) => {
                    tracing::warn!(uid = cred.uid(), pid = cred.pid(), "refused a connection of another user");
                }
                Err(error) => tracing::warn!(%error, "refused a connection of an unknown user"),
            }
        }
    }
}

impl Drop for PrivateSocket {
    /// The listener is still open here, so nobody can have found the socket stale and taken its place meanwhile.
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        let ours = |meta: &fs::Metadata| meta.dev() == file.device && meta.ino() == file.inode;
        if fs::symlink_metadata(&file.path).is_ok_and(|meta| ours(&meta))
            && let Err(error) = fs::remove_file(&file.path)
        {
            tracing::warn!(path = %file.path.display(), %error, "failed to remove the socket");
        }
    }
}

fn may_enter(uid: u32, owner: u32) -> bool {
    uid == owner || uid == 0
}

/// Removes a stale socket from `path`.
async fn clear(path: &Path) -> Result<(), BindError> {
    let probe = |source| BindError::Probe { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(probe(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::Foreign(path.to_owned())),
        Ok(_) => {}
    }
    match timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removed a stale socket");
            fs::remove_file(path).map_err(|source| BindError::Bind { path: path.to_owned(), source })
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog (WouldBlock) and silence are signs of life too.
        Ok(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Err(probe(error)),
        _ => Err(BindError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests;
