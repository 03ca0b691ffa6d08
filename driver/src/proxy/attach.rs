//! A session on a pod: the daemon answers there for the user's end, for as long as a build on that pod needs it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use h2::Reason;
use http::Request;
use tokio_util::sync::CancellationToken;

use super::forward;
use super::session::{Ending, Tunnel};
use super::sessions::{Session, SessionId};
use crate::builder::PodName;
use crate::fleet::{Bulk, Lease};
use crate::shutdown::Shutdown;
use crate::wire;

/// What a pod may take to answer a new session.
const GREETING: Duration = Duration::from_secs(20);

/// What a pod may take to let go of a session that nobody needs any more.
const FAREWELL: Duration = Duration::from_secs(2);

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
    let (tunnel, _place) = match opened {
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
    let Some(mut seat) = session.orders.join(tunnel, delivered) else { return };
    tokio::select! {
        () = seat.ended() => return,
        () = session.gone.cancelled() => {}
        () = detach.cancelled() => {}
    }
    // In this order the pod sees its calls end, then the session: nothing is cut that could be said.
    seat.leave();
    let _ = tokio::time::timeout(FAREWELL, seat.ended()).await;
}

/// The place is kept for as long as the connection.
async fn open(session: &Session, lease: &Lease) -> Result<(Tunnel, Bulk), h2::Error> {
    let mut place = lease.bulk().await?;
    let mut request = Request::from_parts(session.head.clone(), ());
    *request.uri_mut() = forward::absolute(request.uri());
    let (response, to_pod) = place.requests().send_request(request, false)?;
    let response = response.await?;
    if response.body().is_end_stream() {
        tracing::warn!(pod = %lease.pod(), "the pod refused a session: {}", wire::message_text(response.headers()));
        return Err(Reason::REFUSED_STREAM.into());
    }
    Ok((Tunnel::new(response.into_body(), to_pod, Ending::HalfClose), place))
}
