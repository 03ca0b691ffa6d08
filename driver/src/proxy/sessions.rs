//! The sessions of a node's clients, by their ids: what pods may ask of each user's end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use http::request::Parts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clues::SharedKey;
use super::session::Orders;

/// How a session says its id (`session/manager.go`, v0.33).
const ID: &str = "x-docker-expose-session-uuid";

/// The prefix of options by which a client names another session for one of its local directories.
const LOCAL_SESSION: &str = "local-sessionid:";

/// What names a session: chosen by its client, unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionId(Box<[u8]>);

impl SessionId {
    pub(super) fn new(id: &[u8]) -> Option<Self> {
        (!id.is_empty()).then(|| Self(id.into()))
    }

    /// The id in a Session call's metadata.
    pub(super) fn of(head: &HeaderMap) -> Option<Self> {
        Self::new(head.get(ID)?.as_bytes())
    }

    fn is_named_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.0.len()).any(|window| *window == *self.0)
    }
}

/// One user's end that is open.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// The client connection that it came on.
    pub(super) client: u64,
    /// With what the client opened it; each pod gets the same.
    pub(super) head: Parts,
    /// Where it takes the pods that may call the user's end.
    pub(super) orders: Orders,
    /// Cancelled when the user's end has left.
    pub(super) gone: CancellationToken,
}

impl Session {
    /// What it says of the directory that it sends.
    pub(super) fn shared_key(&self) -> Option<SharedKey> {
        SharedKey::of(&self.head.headers)
    }
}

/// The open sessions of a node.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<SessionId, Arc<Session>>>,
    /// Counts what came, for those who wait for one.
    came: watch::Sender<u64>,
}

impl Sessions {
    /// A second session of the same id takes the place of the first, as in `buildkitd`.
    pub(super) fn open(self: &Arc<Self>, session: Session) -> Opened {
        let session = Arc::new(session);
        self.locked().insert(session.id.clone(), Arc::clone(&session));
        self.came.send_modify(|count| *count += 1);
        Opened { sessions: Arc::clone(self), session }
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.locked().get(id).cloned()
    }

    /// Waits until a session of that id is open; who waits bounds it.
    pub(super) async fn wait_for(&self, id: &SessionId) -> Arc<Session> {
        let mut came = self.came.subscribe();
        loop {
            came.mark_unchanged();
            if let Some(session) = self.get(id) {
                return session;
            }
            // The sender lives as long as `self`.
            let _ = came.changed().await;
        }
    }

    /// The sessions of a client connection whose ids stand anywhere in a message.
    pub(super) fn named_in(&self, client: u64, bytes: &[u8]) -> Vec<SessionId> {
        let of_client: Vec<SessionId> = self
            .locked()
            .values()
            .filter(|session| session.client == client)
            .map(|session| session.id.clone())
            .collect();
        of_client.into_iter().filter(|id| id.is_named_in(bytes)).collect()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a session off the table when it is dropped.
#[derive(Debug)]
pub(super) struct Opened {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.session.gone.cancel();
        let mut open = self.sessions.locked();
        if open.get(&self.session.id).is_some_and(|present| Arc::ptr_eq(present, &self.session)) {
            open.remove(&self.session.id);
        }
    }
}

/// The sessions that options name for one local directory each.
pub(super) fn local_sessions(options: &HashMap<String, String>) -> impl Iterator<Item = &String> {
    options.iter().filter(|(key, _)| key.starts_with(LOCAL_SESSION)).map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_wherever_it_stands_in_a_message() {
        let id = SessionId::new(b"abc123").unwrap();
        for (bytes, named) in [(&b"abc123"[..], true), (b"\x0a\x06abc123\x12", true), (b"abc12", false), (b"", false)] {
            assert_eq!(id.is_named_in(bytes), named, "{bytes:?}");
        }
        assert_eq!(SessionId::new(b""), None);
    }
}
