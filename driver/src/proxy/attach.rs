//! A session on a pod: the daemon answers there for the user's end, for as long as a build on that pod needs it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::forward::{self, Passing, RelayError, Untouched};
use super::sessions::{Session, SessionId};
use super::tunnel::{Ending, Tunnel};
use crate::builder::PodName;
use crate::fleet::{Bulk, Lease};
use crate::shutdown::Shutdown;
use crate::wire;

/// What a pod may take to answer a new session.
const GREETING: Duration = Duration::from_secs(20);

/// What a pod may take to let go of a session that nobody needs any more.
const FAREWELL: Duration = Duration::from_secs(2);

/// Services by which a pod reads from the user's end, or asks it. All others may leave something there.
const READING: [&str; 7] = [
    "/moby.filesync.v1.FileSync/",
    "/moby.filesync.v1.Auth/",
    "/moby.buildkit.secrets.v1.Secrets/",
    "/moby.sshforward.v1.SSH/",
    "/moby.upload.v1.Upload/",
    "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/",
    "/grpc.health.v1.Health/",
];

/// Calls of the content store that read.
const READING_CONTENT: [&str; 2] =
    ["/containerd.services.content.v1.Content/Info", "/containerd.services.content.v1.Content/Read"];

/// A session that a pod has. It lets go when the last build that holds it drops it.
#[derive(Debug)]
pub(super) struct Attachment {
    detach: CancellationToken,
    delivered: Arc<AtomicBool>,
}

impl Attachment {
    /// Whether bytes of an export have reached the user through this pod: what was delivered cannot be taken back.
    pub(super) fn has_delivered(&self) -> bool {
        self.delivered.load(Ordering::Acquire)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.detach.cancel();
    }
}

type Place = (SessionId, PodName, u64);

/// Which pods have which sessions.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    present: Mutex<HashMap<Place, Weak<Attachment>>>,
}

impl Attachments {
    /// Gives a session to a pod, once however many builds ask. Does not wait for the pod.
    pub(super) fn attach(&self, session: &Arc<Session>, lease: Lease, shutdown: &Shutdown) -> Arc<Attachment> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.retain(|_, attachment| attachment.strong_count() > 0);
        let place = (session.id.clone(), lease.pod().clone(), lease.incarnation());
        if let Some(attachment) = present.get(&place).and_then(Weak::upgrade) {
            return attachment;
        }
        let (detach, delivered) = (CancellationToken::new(), Arc::default());
        let attachment = Arc::new(Attachment { detach: detach.clone(), delivered: Arc::clone(&delivered) });
        present.insert(place, Arc::downgrade(&attachment));
        shutdown.spawn(serve(Arc::clone(session), lease, detach, delivered));
        attachment
    }
}

/// Runs until the user's end leaves, the pod does, or no build needs the session there.
async fn serve(session: Arc<Session>, lease: Lease, detach: CancellationToken, delivered: Arc<AtomicBool>) {
    let opened = tokio::select! {
        opened = tokio::time::timeout(GREETING, open(&session, &lease)) => opened,
        () = session.gone.cancelled() => return,
        () = detach.cancelled() => return,
    };
    let (mut connection, _place) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            tracing::debug!(pod = %lease.pod(), %error, "a pod did not take a session");
            return;
        }
        Err(_) => {
            tracing::warn!(pod = %lease.pod(), "did not answer a new session within {} s", GREETING.as_secs());
            return;
        }
    };
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                None => return,
                Some(Err(error)) => {
                    tracing::debug!(pod = %lease.pod(), %error, "a pod's end of a session failed");
                    return;
                }
                Some(Ok((request, respond))) => {
                    calls.spawn(call(request, respond, session.user.clone(), Arc::clone(&delivered)));
                }
            },
            Some(ended) = calls.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a call of a session panicked");
                }
            }
            () = session.gone.cancelled() => break,
            () = detach.cancelled() => break,
        }
    }
    // In this order the pod sees its calls end, then the session: nothing is cut that could be said.
    connection.graceful_shutdown();
    let farewell = async {
        loop {
            tokio::select! {
                next = connection.accept() => match next {
                    // A call that comes now is refused by being dropped.
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                },
                Some(_) = calls.join_next() => {}
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// The place is kept for as long as the connection.
async fn open(session: &Session, lease: &Lease) -> Result<(wire::Server<Tunnel>, Bulk), h2::Error> {
    let mut place = lease.bulk().await?;
    let mut request = Request::from_parts(session.head.clone(), ());
    *request.uri_mut() = forward::absolute(request.uri());
    let (response, to_pod) = place.requests().send_request(request, false)?;
    let response = response.await?;
    if response.body().is_end_stream() {
        tracing::warn!(pod = %lease.pod(), "the pod refused a session: {}", wire::message_text(response.headers()));
        return Err(Reason::REFUSED_STREAM.into());
    }
    let tunnel = Tunnel::new(response.into_body(), to_pod, Ending::HalfClose);
    Ok((wire::serve(tunnel).await?, place))
}

/// One call of a pod, handed to the user's end.
async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    user: SendRequest<Bytes>,
    delivered: Arc<AtomicBool>,
) {
    let ready = tokio::select! {
        ready = user.ready() => ready,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let mut asking = Delivery { delivered: (!reads(request.uri().path())).then_some(delivered) };
    let result = match ready {
        Ok(user) => forward::relay(request, &mut respond, user, &mut asking, &mut Untouched).await,
        Err(error) => Err(RelayError::Callee { error, begun: None }),
    };
    if let Err(RelayError::Callee { error, begun }) = result {
        let reason = error.reason().unwrap_or(Reason::CANCEL);
        match begun {
            Some(mut answer) => answer.send_reset(reason),
            None => respond.send_reset(reason),
        }
    }
}

/// Notes that something was delivered.
struct Delivery {
    delivered: Option<Arc<AtomicBool>>,
}

impl Passing for Delivery {
    fn data(&mut self, _chunk: &Bytes) {
        if let Some(delivered) = self.delivered.take() {
            delivered.store(true, Ordering::Release);
        }
    }
}

fn reads(path: &str) -> bool {
    READING.iter().any(|service| path.starts_with(service)) || READING_CONTENT.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_reads_leave_nothing_at_the_users_end() {
        for (path, wanted) in [
            ("/moby.filesync.v1.FileSync/DiffCopy", true),
            ("/moby.filesync.v1.FileSend/DiffCopy", false),
            ("/moby.filesync.v1.Auth/FetchToken", true),
            ("/moby.buildkit.secrets.v1.Secrets/GetSecret", true),
            ("/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy", true),
            ("/grpc.health.v1.Health/Check", true),
            ("/containerd.services.content.v1.Content/Read", true),
            ("/containerd.services.content.v1.Content/Write", false),
            ("/some.new.Service/Method", false),
        ] {
            assert_eq!(reads(path), wanted, "{path}");
        }
    }
}
