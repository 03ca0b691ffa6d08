//! A Jobs service that answers from a script, and remembers what it was asked and given.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use buildfleet_proto::fleet::job_event::Event;
use buildfleet_proto::fleet::jobs_server::Jobs;
use buildfleet_proto::fleet::run_job_request::Message;
use buildfleet_proto::fleet::{
    FollowJobRequest, Job, JobEnd, JobEvent, JobNews, JobPlace, JobSpec, JobState, ListJobsRequest, ListJobsResponse,
    RemoveJobRequest, RemoveJobResponse, RenderJobResponse, RunJobRequest,
};
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

#[derive(Debug, Default)]
struct Script {
    /// What a Job tells when its context is there.
    story: Vec<Event>,
    /// Jobs that are there.
    jobs: Vec<Job>,
    refuses: Option<Status>,
    /// Neither a story's end nor a removal comes.
    stuck: bool,
    asked: Vec<String>,
    spec: Option<JobSpec>,
    context: Vec<u8>,
    /// The client told the end of its context, or broke it off.
    whole: Option<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeJobs {
    script: Arc<Mutex<Script>>,
    removed: Arc<watch::Sender<bool>>,
}

impl Default for FakeJobs {
    fn default() -> Self {
        Self { script: Arc::default(), removed: Arc::new(watch::Sender::new(false)) }
    }
}

pub(crate) fn news(pod: &str, text: &str, trouble: bool) -> Event {
    Event::News(JobNews { pod: pod.into(), text: text.into(), trouble })
}

pub(crate) fn output(text: &str) -> Event {
    Event::Output(text.into())
}

pub(crate) fn end(state: JobState, exit_code: Option<i32>, reason: &str, detail: &str) -> Event {
    Event::End(JobEnd { exit_code, state: state.into(), reason: reason.into(), detail: detail.into() })
}

pub(crate) fn job(name: &str, state: JobState) -> Job {
    Job { name: name.into(), namespace: "builds".into(), state: state.into(), ..Job::default() }
}

impl FakeJobs {
    fn with<T>(&self, with: impl FnOnce(&mut Script) -> T) -> T {
        with(&mut self.script.lock().expect("no test panics with it"))
    }

    /// What a Job tells; without an end it goes on until it is removed.
    pub(crate) fn tells(&self, story: impl IntoIterator<Item = Event>) {
        self.with(|script| script.story = story.into_iter().collect());
    }

    pub(crate) fn has(&self, job: Job) {
        self.with(|script| script.jobs.push(job));
    }

    pub(crate) fn refuses(&self, status: Status) {
        self.with(|script| script.refuses = Some(status));
    }

    /// What was asked and given; the story stays.
    pub(crate) fn forget(&self) {
        self.with(|script| {
            let story = std::mem::take(&mut script.story);
            *script = Script { story, ..Script::default() };
        });
    }

    pub(crate) fn gets_stuck(&self) {
        self.with(|script| script.stuck = true);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.with(|script| script.asked.clone())
    }

    pub(crate) fn spec(&self) -> JobSpec {
        self.with(|script| script.spec.clone()).expect("a job was asked for")
    }

    pub(crate) fn context(&self) -> Vec<u8> {
        self.with(|script| script.context.clone())
    }

    /// Whether the context was told to be whole, as soon as that is known. A client may be gone before its call is read.
    pub(crate) async fn whole(&self) -> bool {
        for _ in 0..1000 {
            if let Some(whole) = self.with(|script| script.whole) {
                return whole;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(self.asked().is_empty(), "nothing was heard of the context's end");
        false
    }

    /// Waits until a call was made.
    pub(crate) async fn was_asked(&self, what: &str) {
        for _ in 0..1000 {
            if self.asked().iter().any(|asked| asked == what) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("`{what}` was not asked: {:?}", self.asked());
    }

    fn ask(&self, what: String) -> Result<(), Status> {
        self.with(|script| {
            script.asked.push(what);
            script.refuses.take().map_or(Ok(()), Err)
        })
    }

    /// The rest of a Job's events.
    async fn tell(self, to: mpsc::Sender<Result<JobEvent, Status>>, mut told: Vec<Event>) {
        let (story, stuck) = self.with(|script| (script.story.clone(), script.stuck));
        let ends = story.iter().any(|event| matches!(event, Event::End(_)));
        told.extend(story);
        for event in told {
            if to.send(Ok(JobEvent { event: Some(event) })).await.is_err() {
                return;
            }
        }
        let detached = self.with(|script| script.spec.as_ref().is_some_and(|spec| spec.detach));
        if !ends && !detached {
            let mut removed = self.removed.subscribe();
            tokio::select! {
                () = async { drop(removed.wait_for(|removed| *removed && !stuck).await) } => {
                    let event = Some(end(JobState::JobCanceled, None, "", ""));
                    let _ = to.send(Ok(JobEvent { event })).await;
                }
                () = to.closed() => {}
            }
        }
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<JobEvent, Status>> + Send>>;

fn of(place: Option<&JobPlace>) -> String {
    place.map(|place| format!("{}/{}", place.namespace, place.name)).unwrap_or_default()
}

#[tonic::async_trait]
impl Jobs for FakeJobs {
    type RunStream = Events;
    type FollowStream = Events;

    async fn run(&self, request: Request<Streaming<RunJobRequest>>) -> Result<Response<Events>, Status> {
        let mut requests = request.into_inner();
        let Some(RunJobRequest { message: Some(Message::Spec(spec)) }) = requests.message().await? else {
            return Err(Status::invalid_argument("no spec"));
        };
        let place = spec.place.clone().unwrap_or_default();
        let name = if place.name.is_empty() { "invented".to_owned() } else { place.name.clone() };
        self.with(|script| script.spec = Some(spec));
        self.ask(format!("run {}", of(Some(&place))))?;
        let (to, events) = mpsc::channel(1);
        let this = self.clone();
        tokio::spawn(async move {
            let made = Event::Job(job(&name, JobState::JobPreparing));
            if to.send(Ok(JobEvent { event: Some(made) })).await.is_err() {
                return this.with(|script| script.whole = Some(false));
            }
            loop {
                match requests.message().await {
                    Ok(Some(RunJobRequest { message: Some(Message::Context(piece)) })) => {
                        let size = this.with(|script| {
                            script.context.extend(&piece);
                            script.context.len() as u64
                        });
                        let _ = to.send(Ok(JobEvent { event: Some(Event::Uploaded(size)) })).await;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        this.with(|script| script.whole = Some(true));
                        return this.tell(to, Vec::new()).await;
                    }
                    Err(_) => return this.with(|script| script.whole = Some(false)),
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(events).boxed()))
    }

    async fn render(&self, request: Request<JobSpec>) -> Result<Response<RenderJobResponse>, Status> {
        self.with(|script| script.spec = Some(request.into_inner()));
        self.ask("render".to_owned())?;
        let (manifests, warnings) = ("kind: Job\n".to_owned(), vec!["it is privileged".to_owned()]);
        Ok(Response::new(RenderJobResponse { manifests, warnings }))
    }

    async fn list(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let ListJobsRequest { place, all_namespaces } = request.into_inner();
        let place = place.unwrap_or_default();
        self.ask(format!("list {}{}", place.namespace, if all_namespaces { "*" } else { "" }))?;
        Ok(Response::new(ListJobsResponse { jobs: self.with(|script| script.jobs.clone()) }))
    }

    async fn follow(&self, request: Request<FollowJobRequest>) -> Result<Response<Events>, Status> {
        let FollowJobRequest { place, follow, tail } = request.into_inner();
        self.ask(format!("follow {} {follow} {tail}", of(place.as_ref())))?;
        let name = place.unwrap_or_default().name;
        let (to, events) = mpsc::channel(1);
        tokio::spawn(self.clone().tell(to, vec![Event::Job(job(&name, JobState::JobRunning))]));
        Ok(Response::new(ReceiverStream::new(events).boxed()))
    }

    async fn remove(&self, request: Request<RemoveJobRequest>) -> Result<Response<RemoveJobResponse>, Status> {
        let RemoveJobRequest { place, only_running, only_finished } = request.into_inner();
        let only = match (only_running, only_finished) {
            (true, _) => " that runs",
            (_, true) => " that is over",
            _ => "",
        };
        self.ask(format!("remove {}{only}", of(place.as_ref())))?;
        if self.with(|script| script.stuck) {
            return std::future::pending().await;
        }
        self.removed.send_replace(true);
        let job = Some(job(&place.unwrap_or_default().name, JobState::JobCanceled));
        Ok(Response::new(RemoveJobResponse { job }))
    }
}
