//! The builds of a fake `buildkitd`: by their Ref, for as long and in the way that BuildKit knows them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildfleet_proto::buildkit::{SolveRequest, StatusResponse, VertexLog};
use futures::Stream;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::seen::{End, Event, Seen};
use crate::support::records::Records;

/// One thing that a build says of itself.
#[derive(Debug, Clone)]
pub(super) enum Said {
    One(StatusResponse),
    /// A log message of this length, made when somebody takes it.
    Large(String, usize),
}

impl Said {
    fn response(self) -> StatusResponse {
        match self {
            Self::One(response) => response,
            Self::Large(vertex, length) => {
                let log = VertexLog { vertex, msg: vec![b'l'; length], ..VertexLog::default() };
                StatusResponse { logs: vec![log], ..StatusResponse::default() }
            }
        }
    }
}

/// What a handle stands for: done once, when somebody needs it.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) options: HashMap<String, String>,
    pub(super) done: OnceCell<Result<(), Status>>,
}

/// A client's Return.
pub(super) type Returned = Result<Vec<Arc<Work>>, Status>;

/// One build.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: SolveRequest,
    said: Mutex<Vec<Said>>,
    /// How much was said, and whether that is all.
    news: watch::Sender<(usize, bool)>,
    handles: Mutex<BTreeMap<String, Arc<Work>>>,
    returned: watch::Sender<Option<Returned>>,
    /// Bytes of local directories that were read.
    pub(super) read: AtomicUsize,
    /// Facts for Solve's answer.
    pub(super) facts: Mutex<HashMap<String, String>>,
    pub(super) over: CancellationToken,
}

impl Job {
    pub(super) fn r#ref(&self) -> &str {
        &self.request.r#ref
    }

    pub(super) fn says(&self, said: Said) {
        self.said.lock().unwrap().push(said);
        self.news.send_modify(|(count, _)| *count += 1);
    }

    /// All that was said and will be, for one who follows.
    pub(super) fn follow(self: &Arc<Self>) -> impl Stream<Item = StatusResponse> + use<> {
        let state = (Arc::clone(self), self.news.subscribe(), 0);
        futures::stream::unfold(state, |(job, mut news, next)| async move {
            let over = |(count, over): &(usize, bool)| *count > next || *over;
            let there = news.wait_for(over).await.is_ok_and(|news| news.0 > next);
            let said = there.then(|| job.said.lock().unwrap()[next].clone())?;
            Some((said.response(), (job, news, next + 1)))
        })
    }

    /// A new handle, that this pod alone knows.
    pub(super) fn handle(&self, work: &Arc<Work>) -> String {
        let id = random_id();
        self.handles.lock().unwrap().insert(id.clone(), Arc::clone(work));
        id
    }

    /// What a handle stands for; `missing` words the error, which differs from call to call.
    pub(super) fn work(&self, handle: &str, missing: impl FnOnce() -> String) -> Result<Arc<Work>, Status> {
        self.handles.lock().unwrap().get(handle).cloned().ok_or_else(|| Status::unknown(missing()))
    }

    pub(super) fn return_once(&self, returned: Returned) -> Result<(), Status> {
        let first = self.returned.send_if_modified(|before| {
            let first = before.is_none();
            if first {
                *before = Some(returned);
            }
            first
        });
        if first { Ok(()) } else { Err(Status::unknown("gateway result is already set")) }
    }

    pub(super) async fn returned(&self) -> Returned {
        let mut returned = self.returned.subscribe();
        let returned = returned.wait_for(Option::is_some).await.unwrap();
        returned.clone().unwrap()
    }
}

/// As BuildKit's ids: 25 characters of base 36, from enough randomness.
pub(super) fn random_id() -> String {
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut id = String::new();
    while id.len() < 25 {
        let mut random = RandomState::new().hash_one(id.len());
        for _ in 0..12 {
            id.push(char::from(digits[usize::try_from(random % 36).unwrap()]));
            random /= 36;
        }
    }
    id.truncate(25);
    id
}

/// All builds of a pod.
#[derive(Debug)]
pub(super) struct Jobs {
    seen: Arc<Seen>,
    records: Arc<Records>,
    /// What Status finds: from Solve's begin until `kept` after its end.
    jobs: watch::Sender<BTreeMap<String, Arc<Job>>>,
    /// What LLBBridge finds: while Solve waits for a client's Return or does what follows.
    driven: watch::Sender<BTreeMap<String, Arc<Job>>>,
    /// Those that have ended and are no probes, oldest first.
    history: Mutex<Vec<Arc<Job>>>,
    kept: Duration,
}

impl Jobs {
    pub(super) fn new(seen: Arc<Seen>, records: Arc<Records>, kept: Duration) -> Self {
        let (jobs, driven) = Default::default();
        Self { seen, records, jobs, driven, history: Mutex::default(), kept }
    }

    /// A new build, until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, request: SolveRequest, driven: bool) -> Result<UnderWay, Status> {
        self.seen.happens(Event::Solve(Box::new(request.clone())));
        let r#ref = request.r#ref.clone();
        if self.jobs.borrow().contains_key(&r#ref) {
            return Err(Status::unknown(format!("job ID {ref} exists")));
        }
        let job = Arc::new(Job {
            request,
            said: Mutex::default(),
            news: watch::Sender::default(),
            handles: Mutex::default(),
            returned: watch::Sender::default(),
            read: AtomicUsize::default(),
            facts: Mutex::default(),
            over: CancellationToken::new(),
        });
        self.jobs.send_modify(|jobs| drop(jobs.insert(r#ref.clone(), Arc::clone(&job))));
        if !job.request.internal {
            self.records.begins(&r#ref);
        }
        if driven {
            self.driven.send_modify(|jobs| drop(jobs.insert(r#ref, Arc::clone(&job))));
        }
        Ok(UnderWay { jobs: Arc::clone(self), job, end: End::Cancelled })
    }

    /// For Status: the build, also when it begins or began a moment from now.
    pub(super) async fn find(&self, r#ref: &str, patience: Duration) -> Result<Arc<Job>, Status> {
        let finished = self.history.lock().unwrap().iter().find(|job| job.r#ref() == r#ref).cloned();
        match finished {
            Some(job) => Ok(job),
            None => wait_for(&self.jobs, r#ref, patience).await,
        }
    }

    /// For LLBBridge: likewise, among those that a client drives.
    pub(super) async fn find_driven(&self, r#ref: &str, patience: Duration) -> Result<Arc<Job>, Status> {
        wait_for(&self.driven, r#ref, patience).await
    }

    /// Its record was deleted.
    pub(super) fn forget(&self, r#ref: &str) {
        self.history.lock().unwrap().retain(|job| job.r#ref() != r#ref);
    }
}

async fn wait_for(
    jobs: &watch::Sender<BTreeMap<String, Arc<Job>>>,
    r#ref: &str,
    patience: Duration,
) -> Result<Arc<Job>, Status> {
    let mut jobs = jobs.subscribe();
    let there = tokio::time::timeout(patience, jobs.wait_for(|jobs| jobs.contains_key(r#ref))).await;
    let unknown = || Status::not_found(format!("no such job {ref}"));
    there.map(|jobs| Arc::clone(&jobs.unwrap()[r#ref])).map_err(|_| unknown())
}

/// A build whose Solve is open.
#[derive(Debug)]
pub(super) struct UnderWay {
    jobs: Arc<Jobs>,
    pub(super) job: Arc<Job>,
    end: End,
}

impl UnderWay {
    pub(super) fn ends(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let (jobs, job) = (&self.jobs, &self.job);
        jobs.driven.send_modify(|driven| drop(driven.remove(job.r#ref())));
        job.over.cancel();
        if !job.request.internal {
            jobs.history.lock().unwrap().push(Arc::clone(job));
            jobs.records.ends(job.r#ref());
        }
        job.news.send_modify(|(_, over)| *over = true);
        jobs.seen.happens(Event::Ended(job.r#ref().to_owned(), self.end));
        let (jobs, r#ref) = (Arc::clone(jobs), job.r#ref().to_owned());
        // Dropped with its process, there is nothing to forget.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(jobs.kept).await;
            jobs.jobs.send_modify(|jobs| drop(jobs.remove(&r#ref)));
        });
    }
}

impl Job {
    pub(super) fn fact(&self, name: &str, value: impl Into<String>) {
        self.facts.lock().unwrap().insert(name.to_owned(), value.into());
    }

    /// What Solve answers.
    pub(super) fn answer(&self, pod: &str) -> HashMap<String, String> {
        let mut facts = self.facts.lock().unwrap().clone();
        facts.insert("pod".to_owned(), pod.to_owned());
        facts.insert("bytes".to_owned(), self.read.load(Ordering::SeqCst).to_string());
        facts
    }
}
