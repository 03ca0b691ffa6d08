//! A build as BuildKit's client makes it: its calls side by side, the frontend's result given back, and the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::frontend::{EvaluateRequest, Ref, Result as Refs, SolveResponse, result};
use buildfleet_proto::buildkit::{StatusRequest, StatusResponse};
use bytes::Bytes;
use prost::Message;
use tokio::task::JoinHandle;
use tonic::Status;

use super::offer::Given;
use super::plan::{Part, Plan};
use super::session::UserSession;
use super::{LIMIT, User};

/// BuildKit's client lets Status go on until it is silent for this long after Solve's end.
const DRAIN: Duration = Duration::from_secs(5);

/// What Control.Solve answers, or why not.
pub(crate) type Solved = Result<HashMap<String, String>, Status>;

/// A build under way; dropped, it is broken off.
#[derive(Debug)]
pub(crate) struct Running {
    user: User,
    plan: Plan,
    begun: Instant,
    pub(crate) session: Option<UserSession>,
    solving: Owned<Solved>,
    watching: Option<Owned<Result<(), Status>>>,
    pub(crate) watched: Arc<Watched>,
}

/// A task that ends with who waits for it.
#[derive(Debug)]
pub(crate) struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What Status told.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    told: Mutex<Vec<StatusResponse>>,
    bytes: Mutex<usize>,
}

impl Watched {
    fn hears(&self, mut response: StatusResponse) {
        for log in &mut response.logs {
            *self.bytes.lock().unwrap() += log.msg.len();
            log.msg.truncate(1 << 10);
        }
        self.told.lock().unwrap().push(response);
    }

    /// The names of the vertices, each once, in the order in which they came.
    pub(crate) fn vertices(&self) -> Vec<String> {
        let mut names = Vec::new();
        for vertex in self.told.lock().unwrap().iter().flat_map(|told| &told.vertexes) {
            if !names.contains(&vertex.name) {
                names.push(vertex.name.clone());
            }
        }
        names
    }

    /// All that was told, to look closer.
    pub(crate) fn told(&self) -> Vec<StatusResponse> {
        self.told.lock().unwrap().clone()
    }

    /// The text of all logs.
    pub(crate) fn logs(&self) -> String {
        let told = self.told.lock().unwrap();
        told.iter().flat_map(|told| &told.logs).map(|log| String::from_utf8_lossy(&log.msg).into_owned()).collect()
    }

    /// The length of all logs, as it came.
    pub(crate) fn bytes(&self) -> usize {
        *self.bytes.lock().unwrap()
    }
}

/// What the frontend gave; by default nothing, as for one that never ran.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    /// The message `Result` as it came: fields that no type here names are given back as well.
    pub(crate) raw: Bytes,
    /// The handles in it.
    pub(crate) handles: Vec<String>,
}

/// The field `result` of LLBBridge's SolveResponse and ReturnRequest, which is at two different places.
#[derive(Clone, PartialEq, Message)]
struct Solve {
    #[prost(bytes = "bytes", tag = "3")]
    result: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Return {
    #[prost(bytes = "bytes", optional, tag = "1")]
    result: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    error: Option<Failure>,
}

/// `google.rpc.Status`, without the details.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Failure {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// A build that has ended.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) solved: Solved,
    /// Whether the calls of LLBBridge succeeded.
    pub(crate) gateway: Result<(), Status>,
    pub(crate) watched: Arc<Watched>,
    /// How Status ended; `None` when it was never asked.
    pub(crate) status: Option<Result<(), Status>>,
    /// How the daemon ended the session once the user had half-closed it.
    pub(crate) session: Option<Result<(), Status>>,
    pub(crate) given: Arc<Given>,
    pub(crate) took: Duration,
}

impl Built {
    /// What Solve answered; every other call has to have ended well, too.
    pub(crate) fn well(&self) -> &HashMap<String, String> {
        let solved = self.solved.as_ref().unwrap_or_else(|status| panic!("the build failed: {status:?}\n{self:#?}"));
        assert!(self.gateway.is_ok(), "{self:#?}");
        assert!(!matches!(self.status, Some(Err(_))), "{self:#?}");
        assert!(!matches!(self.session, Some(Err(_))), "{self:#?}");
        solved
    }

    pub(crate) fn pod(&self) -> &str {
        &self.well()["pod"]
    }

    /// Why Solve failed.
    pub(crate) fn error(&self) -> &Status {
        self.solved.as_ref().err().unwrap_or_else(|| panic!("the build did not fail: {self:#?}"))
    }
}

impl User {
    /// Begins a build: its Session, Solve and Status, each when the plan says.
    pub(crate) fn begin(&self, plan: Plan) -> Running {
        let delay = |part| plan.delay(part).unwrap_or(LIMIT);
        let offer = plan.offer.clone().filter(|_| plan.delay(Part::Session).is_some());
        let session = offer.map(|offer| UserSession::open(self, offer, delay(Part::Session)));
        let (mut control, request, wait) = (self.control(), plan.solve_request(), delay(Part::Solve));
        let solving = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            control.solve(request).await.map(|answer| answer.into_inner().exporter_response)
        });
        let watched = Arc::new(Watched::default());
        let watching = plan.delay(Part::Status).map(|wait| {
            let request = StatusRequest { r#ref: plan.r#ref.clone() };
            Owned(tokio::spawn(watch(self.clone(), request, wait, Arc::clone(&watched))))
        });
        let begun = Instant::now();
        Running { user: self.clone(), plan, begun, session, solving: Owned(solving), watching, watched }
    }

    /// A whole build.
    pub(crate) async fn build(&self, plan: Plan) -> Built {
        self.begin(plan).finish().await
    }
}

async fn watch(user: User, request: StatusRequest, wait: Duration, watched: Arc<Watched>) -> Result<(), Status> {
    tokio::time::sleep(wait).await;
    let mut told = user.control().status(request).await?.into_inner();
    while let Some(response) = told.message().await? {
        watched.hears(response);
    }
    Ok(())
}

impl Running {
    pub(crate) async fn ping(&self) -> Result<Bytes, Status> {
        self.user.bridge_raw(&[&self.plan.r#ref], "Ping", Bytes::new()).await
    }

    /// Runs the frontend.
    pub(crate) async fn make(&self) -> Result<Made, Status> {
        let answer = self.user.bridge(&self.plan.r#ref, "Solve", &self.plan.frontend_request()).await?;
        let raw = Solve::decode(answer.clone()).unwrap().result;
        let made = SolveResponse::decode(answer).unwrap().result.unwrap_or_default();
        Ok(Made { raw, handles: handles(&made) })
    }

    pub(crate) async fn evaluate(&self, made: &Made) -> Result<(), Status> {
        for handle in &made.handles {
            let request = EvaluateRequest { r#ref: handle.clone() };
            self.user.bridge(&self.plan.r#ref, "Evaluate", &request).await?;
        }
        Ok(())
    }

    /// Gives the result to the exporters.
    pub(crate) async fn give_back(&self, made: &Made) -> Result<(), Status> {
        let request = Return { result: Some(made.raw.clone()), error: None };
        self.user.bridge(&self.plan.r#ref, "Return", &request).await.map(drop)
    }

    /// Says that the client failed by itself.
    pub(crate) async fn give_up(&self, status: &Status) -> Result<(), Status> {
        let error = Failure { code: status.code().into(), message: status.message().to_owned() };
        let request = Return { result: None, error: Some(error) };
        self.user.bridge(&self.plan.r#ref, "Return", &request).await.map(drop)
    }

    /// All calls of LLBBridge, as BuildKit's client makes them for a build of one frontend.
    async fn drive(&self) -> Result<(), Status> {
        let Some(wait) = self.plan.delay(Part::Bridge).filter(|_| !self.plan.direct) else { return Ok(()) };
        tokio::time::sleep(wait).await;
        self.ping().await?;
        let made = async {
            let made = self.make().await?;
            if self.plan.evaluates {
                self.evaluate(&made).await?;
            }
            Ok(made)
        };
        match made.await {
            Ok(made) => self.give_back(&made).await,
            Err(status) => {
                // Only the first error counts, as with the real client.
                let _ = self.give_up(&status).await;
                Err(status)
            }
        }
    }

    /// Brings the build to its end.
    pub(crate) async fn finish(self) -> Built {
        let driven = tokio::time::timeout(LIMIT, self.drive()).await;
        let gateway = driven.unwrap_or_else(|_| Err(Status::deadline_exceeded("LLBBridge hangs")));
        self.end(gateway).await
    }

    /// Waits for Solve's end, then leaves as BuildKit's client does.
    pub(crate) async fn end(mut self, gateway: Result<(), Status>) -> Built {
        let hangs = |what: &str| Err(Status::deadline_exceeded(format!("{what} hangs")));
        let limit = if gateway.is_ok() { LIMIT } else { DRAIN };
        let solved = match tokio::time::timeout(limit, &mut self.solving.0).await {
            Ok(solved) => solved.unwrap(),
            Err(_) => Err(Status::deadline_exceeded("Solve hangs")),
        };
        let took = self.begun.elapsed();
        let session = self.session.take();
        let given = session.as_ref().map(|session| Arc::clone(&session.given)).unwrap_or_default();
        let closing = async {
            match session {
                Some(session) => Some(session.close().await),
                None => None,
            }
        };
        let watching = self.watching.as_mut();
        let draining = async {
            let watching = watching?;
            let status = tokio::time::timeout(DRAIN, &mut watching.0).await;
            Some(status.map_or_else(|_| hangs("Status"), Result::unwrap))
        };
        let (session, status) = tokio::join!(closing, draining);
        Built { solved, gateway, watched: Arc::clone(&self.watched), status, session, given, took }
    }

    pub(crate) fn is_solved(&self) -> bool {
        self.solving.0.is_finished()
    }

    /// Cancels Solve, as a client does whose user has pressed Ctrl-C; all else goes on.
    pub(crate) fn cancel_solve(&self) {
        self.solving.0.abort();
    }

    /// Cancels Status alone.
    pub(crate) fn cancel_status(&mut self) {
        self.watching = None;
    }
}

/// The handles in a result, in whichever of the four forms.
fn handles(made: &Refs) -> Vec<String> {
    let mut handles: Vec<String> = match made.result.clone() {
        None => Vec::new(),
        Some(result::Result::RefDeprecated(id) | result::Result::Ref(Ref { id, .. })) => vec![id],
        Some(result::Result::RefsDeprecated(refs)) => refs.refs.into_values().collect(),
        Some(result::Result::Refs(refs)) => refs.refs.into_values().map(|r#ref| r#ref.id).collect(),
    };
    let attested = made.attestations.values().flat_map(|attestations| &attestations.attestation);
    handles.extend(attested.filter_map(|attestation| Some(attestation.r#ref.as_ref()?.id.clone())));
    handles.retain(|id| !id.is_empty());
    handles
}
