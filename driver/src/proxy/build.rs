//! One build: held until its pod can be chosen, placed, and begun anew on another pod when its pod ends.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use buildfleet_proto::buildkit::frontend::result::Result as Handles;
use buildfleet_proto::buildkit::{SolveRequest, frontend};
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::clues;
use super::handles::{HandleMap, Journal};
use super::outcome::{Outcome, outcome, status_of};
use super::placed::Placed;
use super::sessions::{SessionId, local_sessions};
use super::unary::Question;
use crate::builder::PodName;
use crate::fleet::Lease;
use crate::placement::Placing;
use crate::wire::{Code, Status};

mod end;
mod tries;

use tries::{DELIVERED, NotBegun, given_up, limit, not_again};

/// A pod that lives on although the connection to it was lost gives up the build that it had, and takes none of the same ref for
/// ten seconds more (`solver/jobs.go`, v0.33): a client may still ask for the progress of the one that ended.
const LET_GO: Duration = Duration::from_secs(11);

/// A client opens its session beside its Solve; what it says of the context should not be missed by a hair.
const SESSION: Duration = Duration::from_millis(200);

/// Where a build is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Its client has not said yet what to build.
    Held,
    /// It waits for a pod; after an earlier one ended, with the reason.
    Seeking { after: Option<String> },
    /// A pod has it. The lease is a visit: it counts for nothing and keeps nothing.
    Placed { attempt: usize, pod: Arc<Lease> },
    /// It has ended; with a status of ours when no pod did.
    Over(Option<Status>),
}

/// A build whose Control.Solve is open.
#[derive(Debug)]
pub(super) struct Build {
    client: Arc<Client>,
    question: Question,
    request: SolveRequest,
    /// Set by the first call of a client that drives its build itself: what it wants to have built, if it said.
    called: watch::Sender<bool>,
    wanted: OnceLock<frontend::SolveRequest>,
    named: Mutex<BTreeSet<SessionId>>,
    journal: Mutex<Journal>,
    attempts: Mutex<Vec<Arc<Attempt>>>,
    stage: watch::Sender<Stage>,
    /// Cancelled when its client wants nothing of it, so that no pod is needed.
    wants_nothing: CancellationToken,
}

/// One try on one pod. All calls of the build share it, whichever of them does the waiting.
#[derive(Debug, Default)]
struct Attempt {
    begun: OnceLock<Instant>,
    outcome: OnceCell<Result<Arc<Placed>, Status>>,
    /// When its pod has ended: whether there is another try.
    loss: OnceLock<Result<(), Status>>,
}

impl Build {
    pub(super) fn new(client: Arc<Client>, question: Question, request: SolveRequest) -> Self {
        let mut named = BTreeSet::new();
        let sessions = [&request.session, &request.source_policy_session].into_iter();
        named.extend(
            sessions.chain(local_sessions(&request.frontend_attrs)).filter_map(|id| SessionId::new(id.as_bytes())),
        );
        Self {
            client,
            question,
            request,
            called: watch::Sender::new(false),
            wanted: OnceLock::new(),
            named: Mutex::new(named),
            journal: Mutex::default(),
            attempts: Mutex::default(),
            stage: watch::Sender::new(Stage::Held),
            wants_nothing: CancellationToken::new(),
        }
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(super) fn reference(&self) -> &str {
        &self.request.r#ref
    }

    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Where it runs now.
    pub(super) fn pod(&self) -> Option<PodName> {
        match &*self.stage.borrow() {
            Stage::Placed { pod, .. } => Some(pod.pod().clone()),
            Stage::Held | Stage::Seeking { .. } | Stage::Over(_) => None,
        }
    }

    /// Whether it will be placed for the first time. A probe is not waited for: it may want nothing.
    pub(super) fn is_unplaced(&self) -> bool {
        !self.request.internal && matches!(&*self.stage.borrow(), Stage::Held | Stage::Seeking { after: None })
    }

    /// Whether its client says by calls of its own what to build (`client/build.go`, v0.33): then Solve itself has nothing.
    fn is_driven(&self) -> bool {
        self.request.frontend.is_empty() && self.request.definition.is_none()
    }

    /// The client makes a call for which a pod is needed.
    pub(super) fn call(&self, wanted: Option<frontend::SolveRequest>) {
        if let Some(wanted) = wanted {
            self.name(local_sessions(&wanted.frontend_opt).filter_map(|id| SessionId::new(id.as_bytes())));
            let _ = self.wanted.set(wanted);
        }
        self.called.send_replace(true);
    }

    /// Whether this call ends a build of which nothing was wanted: buildx asks so, before each build, what the builder can do.
    /// A user who waits for a pod sees it as a step of the build, and the question has no progress of its own.
    pub(super) fn wants_nothing(&self, returned: &frontend::ReturnRequest) -> bool {
        let empty = |result: &frontend::Result| {
            let nothing = match &result.result {
                None => true,
                Some(Handles::Ref(one)) => one.id.is_empty(),
                Some(Handles::RefDeprecated(id)) => id.is_empty(),
                Some(Handles::Refs(_) | Handles::RefsDeprecated(_)) => false,
            };
            nothing && result.attestations.is_empty()
        };
        let nothing = self.request.internal
            && !*self.called.borrow()
            && returned.error.is_empty()
            && returned.result.as_ref().is_none_or(empty);
        if nothing {
            self.wants_nothing.cancel();
        }
        nothing
    }

    /// Resolves when [`Build::wants_nothing`] was found.
    pub(super) async fn wanted_nothing(&self) {
        self.wants_nothing.cancelled().await;
    }

    /// Whether [`Build::wants_nothing`] was found.
    pub(super) fn is_nothing(&self) -> bool {
        self.wants_nothing.is_cancelled()
    }

    /// Sessions that the pod of this build needs.
    pub(super) fn name(&self, sessions: impl IntoIterator<Item = SessionId>) {
        self.locked(&self.named).extend(sessions);
    }

    pub(super) fn named(&self) -> BTreeSet<SessionId> {
        self.locked(&self.named).clone()
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.locked(&self.journal)
    }

    /// The number of the present try.
    pub(super) fn latest(&self) -> usize {
        self.locked(&self.attempts).len().saturating_sub(1)
    }

    /// The pod of a try; waits for one to start when none runs. All calls that wait get the same one. A build that has ended
    /// has no more tries: a call that came too late would begin it where nobody waits for it.
    pub(super) async fn attempt(self: &Arc<Self>, number: usize) -> Result<Arc<Placed>, Status> {
        let attempt = {
            let mut attempts = self.locked(&self.attempts);
            if attempts.len() <= number {
                attempts.resize_with(number + 1, Arc::default);
            }
            Arc::clone(&attempts[number])
        };
        let outcome = attempt.outcome.get_or_init(|| async {
            let outcome = self.begin(number, &attempt.begun).await;
            if let Err(status) = &outcome {
                self.enter(Stage::Over(Some(status.clone())));
            }
            outcome
        });
        tokio::select! {
            // The end first: one that was cancelled leaves the placing to the next call that waits.
            biased;
            status = self.over() => Err(status),
            outcome = outcome => outcome.clone(),
        }
    }

    /// Its next stage; the last one is never left.
    fn enter(&self, next: Stage) {
        self.stage.send_if_modified(|stage| {
            let over = matches!(stage, Stage::Over(_));
            if !over {
                *stage = next;
            }
            !over
        });
    }

    async fn begin(self: &Arc<Self>, number: usize, begun: &OnceLock<Instant>) -> Result<Arc<Placed>, Status> {
        if number == 0 {
            self.wait_for_call().await?;
            self.enter(Stage::Seeking { after: None });
        }
        let begun = *begun.get_or_init(Instant::now);
        let mut failed = self.failed();
        loop {
            let lease = self.acquire(failed.iter().map(|(pod, _)| pod.clone()).collect(), begun).await?;
            let place = (lease.pod().clone(), lease.incarnation());
            if failed.contains(&place) {
                tokio::time::sleep(LET_GO).await;
            }
            match self.begin_on(number, lease).await {
                Ok(placed) => return Ok(placed),
                Err(NotBegun::Never(status)) => return Err(status),
                Err(NotBegun::Again(text)) => {
                    tracing::info!(reference = self.reference(), "a pod ended before it had the build: {text}");
                    failed.push(place);
                    if let Some(limit) = limit(failed.len(), &text) {
                        return Err(given_up(&text, &limit));
                    }
                }
            }
        }
    }

    /// Waits until the client says what to build. Meanwhile pods are started when none runs.
    async fn wait_for_call(&self) -> Result<(), Status> {
        if !self.is_driven() {
            return Ok(());
        }
        let mut called = self.called.subscribe();
        let warm = async {
            let fleet = self.client.node().fleet();
            if fleet.watch().borrow().ready == 0 {
                self.enter(Stage::Seeking { after: None });
                let placing = Placing { internal: true, ..Placing::default() };
                fleet.acquire(&placing, Instant::now()).await.map_err(|error| status_of(&error))?;
            }
            std::future::pending::<Result<(), Status>>().await
        };
        tokio::select! {
            // Only `self` drops the sender.
            _ = called.wait_for(|called| *called) => Ok(()),
            failed = warm => failed,
        }
    }

    async fn acquire(&self, failed: Vec<PodName>, begun: Instant) -> Result<Lease, Status> {
        let node = self.client.node();
        let session = SessionId::new(self.request.session.as_bytes()).filter(|_| !self.request.internal);
        let shared_key = match session {
            Some(id) => tokio::time::timeout(SESSION, node.sessions().wait_for(&id)).await.ok(),
            None => None,
        };
        let shared_key = shared_key.and_then(|session| session.shared_key());
        let mut placing = clues::placing(self.client.peer(), shared_key.as_ref(), &self.request, self.wanted.get());
        placing.failed = failed;
        // A pod tells of a ref that it has already, and only it can.
        let twin = node.builds().pod_of(self.reference());
        let inputs = self.wanted.get().into_iter().flat_map(|wanted| wanted.frontend_inputs.values());
        placing.linked = twin.or_else(|| self.client.linked(inputs.chain(self.request.frontend_inputs.values())));
        self.client.place(placing, begun).await
    }

    /// Gives the build to a pod, with all that its client did so far.
    async fn begin_on(self: &Arc<Self>, number: usize, lease: Lease) -> Result<Arc<Placed>, NotBegun> {
        let refused = |pod: &PodName, what: &dyn fmt::Display| {
            NotBegun::Never(Status::new(Code::Unavailable, format!("pod {pod} did not take the build: {what}")))
        };
        let asked = async { self.question.ask(lease.requests().await?).await }.await;
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => match outcome(&lease, Err(error)).await {
                Outcome::Lost(text) => return Err(NotBegun::Again(text)),
                Outcome::Reset(reason) => return Err(refused(lease.pod(), &reason)),
                Outcome::Answered(answer) => return Err(refused(lease.pod(), &answer.text())),
            },
        };
        let mut placed = Placed::new(number, lease, asked);
        placed.attach(self);
        let mut handles = HandleMap::default();
        let entries = self.journal().entries();
        for entry in entries {
            let question = entry.question.with_body(handles.translate(entry.question.body()));
            let answer = match placed.ask(&question).await {
                Outcome::Answered(answer) if answer.is_ok() => answer,
                Outcome::Answered(answer) => return Err(refused(placed.lease().pod(), &answer.text())),
                Outcome::Reset(reason) => return Err(refused(placed.lease().pod(), &reason)),
                Outcome::Lost(text) if placed.has_delivered() => {
                    return Err(NotBegun::Never(given_up(&text, &not_again(DELIVERED))));
                }
                Outcome::Lost(text) => return Err(NotBegun::Again(text)),
            };
            if !entry.is_answered_by(&answer, &mut handles) {
                return Err(refused(placed.lease().pod(), &"it answers otherwise than the one before"));
            }
        }
        placed.set_handles(handles);
        let pod = placed.lease().pod().clone();
        tracing::info!(reference = self.reference(), %pod, attempt = number + 1, because = placed.lease().because(), "placed a build");
        let placed = Arc::new(placed);
        if let Some(visit) = self.client.node().fleet().visit(&pod) {
            self.enter(Stage::Placed { attempt: number, pod: Arc::new(visit) });
        }
        Ok(placed)
    }

    /// A try's pod has ended. `Ok` when there is another try; the answer is the same for all of the build's calls.
    pub(super) fn lost(&self, placed: &Placed, text: &str) -> Result<(), Status> {
        let attempt = self.locked(&self.attempts).get(placed.number()).cloned();
        let Some(attempt) = attempt else { return Err(Status::new(Code::Unavailable, text)) };
        let decided = attempt.loss.get_or_init(|| {
            let obstacle = self.obstacle(placed, text);
            tracing::info!(reference = self.reference(), obstacle, "lost a build's pod: {text}");
            match obstacle {
                None => {
                    self.enter(Stage::Seeking { after: Some(text.to_owned()) });
                    Ok(())
                }
                Some(obstacle) => {
                    let status = given_up(text, &obstacle);
                    self.enter(Stage::Over(Some(status.clone())));
                    Err(status)
                }
            }
        });
        decided.clone()
    }

    /// Why the build cannot be begun anew, in words for the user.
    fn obstacle(&self, placed: &Placed, text: &str) -> Option<String> {
        if !self.client.node().retries() {
            return Some(String::new());
        }
        let delivered = || placed.has_delivered().then(|| not_again(DELIVERED));
        limit(placed.number() + 1, text).or_else(delivered).or_else(|| self.journal().obstacle().map(not_again))
    }

    /// The pods that earlier tries were on.
    fn failed(&self) -> Vec<(PodName, u64)> {
        let attempts = self.locked(&self.attempts);
        let placed = attempts.iter().filter_map(|attempt| attempt.outcome.get()?.as_ref().ok());
        placed.map(|placed| (placed.lease().pod().clone(), placed.lease().incarnation())).collect()
    }

    /// Its Solve was answered by that pod.
    pub(super) fn ended_on(&self, pod: &PodName) {
        if !self.request.internal {
            self.client.node().finished().record(self.reference(), pod, SystemTime::now());
        }
    }

    /// Its Solve has ended: what it holds on pods is given back.
    pub(super) fn end(&self) {
        self.enter(Stage::Over(None));
        let mut attempts = self.locked(&self.attempts);
        let tries = std::mem::take(&mut *attempts);
        // What they hold is let go without the lock.
        drop(attempts);
        drop(tries);
        self.client.ended(self.reference());
    }

    fn locked<'a, T>(&self, what: &'a Mutex<T>) -> MutexGuard<'a, T> {
        what.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
