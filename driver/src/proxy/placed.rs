//! A build on the pod that has it: its place there, its Solve, and the sessions that the pod was given for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::attach::Attachment;
use super::build::Build;
use super::handles::HandleMap;
use super::outcome::{Outcome, outcome};
use super::sessions::SessionId;
use super::unary::{Asked, Question};
use crate::fleet::Lease;

type Attached = HashMap<SessionId, Option<Arc<Attachment>>>;

/// One try of a build. Dropping it gives the place back and lets the sessions go.
#[derive(Debug)]
pub(super) struct Placed {
    number: usize,
    lease: Lease,
    solve: Mutex<Option<Asked>>,
    handles: HandleMap,
    /// `None` for a session that was asked for and has not come yet.
    attached: Arc<Mutex<Attached>>,
    gone: CancellationToken,
}

impl Placed {
    pub(super) fn new(number: usize, lease: Lease, solve: Asked) -> Self {
        let (handles, attached, gone) = Default::default();
        Self { number, lease, solve: Mutex::new(Some(solve)), handles, attached, gone }
    }

    /// Counts the tries from zero.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The open Control.Solve, for the one who waits for its end.
    pub(super) fn take_solve(&self) -> Option<Asked> {
        self.solve.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn set_handles(&mut self, handles: HandleMap) {
        self.handles = handles;
    }

    /// A client's message in this pod's handles.
    pub(super) fn translate(&self, body: &Bytes) -> Bytes {
        self.handles.translate(body)
    }

    /// Asks the pod.
    pub(super) async fn ask(&self, question: &Question) -> Outcome {
        let answer = async { question.ask(self.lease.requests().await?).await?.answer().await };
        outcome(&self.lease, answer.await).await
    }

    /// Whether an export has reached the user through this pod.
    pub(super) fn has_delivered(&self) -> bool {
        locked(&self.attached).values().flatten().any(|attachment| attachment.has_delivered())
    }

    /// Gives the pod the sessions that the build names, those that are still to come as soon as they do.
    pub(super) fn attach(&self, build: &Build) {
        let client = build.client();
        let node = client.node();
        for id in build.named() {
            if locked(&self.attached).contains_key(&id) {
                continue;
            }
            locked(&self.attached).insert(id.clone(), None);
            // A pod that cannot be visited any more fails the build by itself.
            let Some(visit) = node.fleet().visit(self.lease.pod()) else { continue };
            if let Some(session) = node.sessions().get(&id) {
                let attachment = node.attachments().attach(&session, visit, client.shutdown());
                locked(&self.attached).insert(id, Some(attachment));
                continue;
            }
            let (attached, gone, client) = (Arc::clone(&self.attached), self.gone.clone(), Arc::clone(client));
            client.clone().shutdown().spawn(async move {
                let node = client.node();
                let session = tokio::select! {
                    session = node.sessions().wait_for(&id) => session,
                    () = gone.cancelled() => return,
                };
                let attachment = node.attachments().attach(&session, visit, client.shutdown());
                locked(&attached).insert(id, Some(attachment));
            });
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
