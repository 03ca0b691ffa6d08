//! The command line's end of the daemon's API: bounded calls whose failures say what was attempted.

use std::future::Future;
use std::time::Duration;

use buildfleet_proto::fleet::fleet_client::FleetClient;
use buildfleet_proto::fleet::jobs_client::JobsClient;
use buildfleet_proto::fleet::objects_client::ObjectsClient;
use buildfleet_proto::fleet::{
    BootstrapRequest, Builder, CreateRequest, CreateResponse, ExamineRequest, Finding, FollowJobRequest,
    InspectRequest, Job, JobEvent, JobSpec, LeaveRequest, ListJobsRequest, ListRequest, ListResponse, LogChunk,
    LogsRequest, Progress, PutObject, PutObjectsRequest, RemoveJobRequest, RemoveRequest, RenderJobResponse,
    RunJobRequest, StopRequest, UsageRequest, UsageResponse, UseRequest, VersionRequest, VersionResponse,
};
use futures::Stream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::failure::Failure;
use crate::daemon::launch::{self, LaunchError};
use crate::settings::Settings;

/// How long the daemon may take for one answer. It asks no pod and no cluster for most of them; `create` reads
/// kubeconfig files and may run an exec plugin.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(super) struct Client {
    fleet: FleetClient<Channel>,
    objects: ObjectsClient<Channel>,
    jobs: JobsClient<Channel>,
}

impl Client {
    fn new(daemon: Channel) -> Self {
        let (fleet, objects) = (FleetClient::new(daemon.clone()), ObjectsClient::new(daemon.clone()));
        Self { fleet, objects, jobs: JobsClient::new(daemon) }
    }

    /// Starts the daemon when none runs.
    pub(super) async fn connect(settings: &Settings) -> Result<Self, Failure> {
        launch::connect_or_start(settings).await.map(Self::new).map_err(unreachable)
    }

    /// The daemon that runs; `None` when none does.
    pub(super) async fn connect_to_running(settings: &Settings) -> Result<Option<Self>, Failure> {
        launch::connect(settings).await.map(|daemon| daemon.map(Self::new)).map_err(unreachable)
    }

    pub(super) async fn version(&mut self) -> Result<VersionResponse, Failure> {
        bounded(self.fleet.version(VersionRequest {})).await.map_err(|f| f.doing("ask the daemon for its version"))
    }

    pub(super) async fn create(&mut self, request: CreateRequest) -> Result<CreateResponse, Failure> {
        bounded(self.fleet.create(request)).await
    }

    /// By name.
    pub(super) async fn list(&mut self) -> Result<Vec<Builder>, Failure> {
        Ok(self.list_with_warnings().await?.builders)
    }

    /// By name, and what could not be listed.
    pub(super) async fn list_with_warnings(&mut self) -> Result<ListResponse, Failure> {
        let mut list = bounded(self.fleet.list(ListRequest {})).await.map_err(|f| f.doing("list the builders"))?;
        list.builders.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// An empty `builder` is the current one.
    pub(super) async fn inspect(&mut self, builder: &str) -> Result<Builder, Failure> {
        let answer = bounded(self.fleet.inspect(InspectRequest { builder: builder.to_owned() })).await;
        match answer {
            Ok(builder) => Ok(builder),
            Err(failure) => Err(self.with_what_there_is(failure.doing(format!("find {}", called(builder)))).await),
        }
    }

    pub(super) async fn select(&mut self, builder: &str) -> Result<(), Failure> {
        let answer = bounded(self.fleet.r#use(UseRequest { builder: builder.to_owned() })).await;
        match answer {
            Ok(_) => Ok(()),
            Err(failure) => {
                Err(self.with_what_there_is(failure.doing(format!("make {} the current one", called(builder)))).await)
            }
        }
    }

    pub(super) async fn bootstrap(
        &mut self,
        builder: &str,
        node: &str,
        timeout_seconds: u32,
    ) -> Result<Streaming<Progress>, Failure> {
        let request = BootstrapRequest { builder: builder.to_owned(), node: node.to_owned(), timeout_seconds };
        bounded(self.fleet.bootstrap(request)).await
    }

    pub(super) async fn leave(&mut self, request: LeaveRequest) -> Result<Streaming<Progress>, Failure> {
        bounded(self.fleet.leave(request)).await
    }

    pub(super) async fn stop(&mut self, builder: &str) -> Result<Streaming<Progress>, Failure> {
        bounded(self.fleet.stop(StopRequest { builder: builder.to_owned() })).await
    }

    pub(super) async fn remove(&mut self, request: RemoveRequest) -> Result<Streaming<Progress>, Failure> {
        bounded(self.fleet.remove(request)).await
    }

    pub(super) async fn logs(&mut self, request: LogsRequest) -> Result<Streaming<LogChunk>, Failure> {
        bounded(self.fleet.logs(request)).await
    }

    pub(super) async fn examine(&mut self, request: ExamineRequest) -> Result<Vec<Finding>, Failure> {
        let answer = bounded(self.fleet.examine(request)).await;
        Ok(answer.map_err(|failure| failure.doing("examine what the builder needs"))?.findings)
    }

    pub(super) async fn usage(&mut self, builder: &str) -> Result<UsageResponse, Failure> {
        let answer = bounded(self.fleet.usage(UsageRequest { builder: builder.to_owned() })).await;
        answer.map_err(|failure| failure.doing(format!("ask what {} uses", called(builder))))
    }

    /// What became of each object, in their order; one that failed is among them.
    pub(super) async fn put_objects(&mut self, request: PutObjectsRequest) -> Result<Vec<PutObject>, Failure> {
        Ok(bounded(self.objects.put(request)).await?.objects)
    }

    /// The answer comes when the Job is made, which takes the cluster's time; the caller bounds it.
    pub(super) async fn run_job(
        &mut self,
        requests: impl Stream<Item = RunJobRequest> + Send + 'static,
    ) -> Result<Streaming<JobEvent>, Failure> {
        self.jobs.run(requests).await.map(Response::into_inner).map_err(Failure::refused)
    }

    pub(super) async fn render_job(&mut self, spec: JobSpec) -> Result<RenderJobResponse, Failure> {
        bounded(self.jobs.render(spec)).await
    }

    pub(super) async fn list_jobs(&mut self, request: ListJobsRequest) -> Result<Vec<Job>, Failure> {
        Ok(bounded(self.jobs.list(request)).await.map_err(|failure| failure.doing("list the jobs"))?.jobs)
    }

    pub(super) async fn follow_job(&mut self, request: FollowJobRequest) -> Result<Streaming<JobEvent>, Failure> {
        bounded(self.jobs.follow(request)).await
    }

    pub(super) async fn remove_job(&mut self, request: RemoveJobRequest) -> Result<Job, Failure> {
        Ok(bounded(self.jobs.remove(request)).await?.job.unwrap_or_default())
    }

    /// To an error about a name that is not there: the names that are.
    pub(super) async fn with_what_there_is(&mut self, failure: Failure) -> Failure {
        if !failure.is_not_found() {
            return failure;
        }
        match self.list().await {
            Ok(builders) if builders.is_empty() => failure.hint(CREATE_ONE),
            Ok(builders) => failure.hint(format!("there are {}", names(&builders))),
            // The first error is the one to tell.
            Err(_) => failure,
        }
    }
}

/// Said where a builder is missing.
pub(super) const CREATE_ONE: &str = "there is no builder yet; create one with `buildfleet create --name NAME`";

/// `kube (kube0, kube1), local (local0)`
fn names(builders: &[Builder]) -> String {
    let one = |builder: &Builder| {
        let nodes: Vec<&str> = builder.nodes.iter().map(|node| node.name.as_str()).collect();
        format!("{} ({})", builder.name, nodes.join(", "))
    };
    builders.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// How an error calls a builder.
pub(super) fn called(builder: &str) -> String {
    if builder.is_empty() { "the current builder".to_owned() } else { format!("builder {builder}") }
}

fn unreachable(error: LaunchError) -> Failure {
    let hint = error.hint();
    let failure = Failure::no_daemon(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// For what the user has set a limit to.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(Failure::no_answer(limit))),
        None => call.await,
    }
}

async fn bounded<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Failure::refused(status)),
        Err(_) => Err(Failure::no_answer(ANSWER)),
    }
}
