//! The Jobs service: requests into Jobs of the backend, what happens to these into messages.

use std::sync::Arc;

use buildfleet_proto::fleet::job_event::Event;
use buildfleet_proto::fleet::jobs_server::Jobs;
use buildfleet_proto::fleet::run_job_request::Message;
use buildfleet_proto::fleet::{
    FollowJobRequest, Job, JobEnd, JobEvent, JobNews, JobPlace, JobSpec, JobState, ListJobsRequest, ListJobsResponse,
    RemoveJobRequest, RemoveJobResponse, RenderJobResponse, RunJobRequest,
};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, Events, status};
use crate::backend::kubernetes::jobs::{self, JobFollow, RemoveWhen, render};
use crate::daemon::given::{located, some};
use crate::daemon::jobs::{Asked, at_builder};
use crate::daemon::registry::Registry;

/// Events on their way to a client; the output of a build waits when it does not read.
const EVENTS: usize = 64;

#[tonic::async_trait]
impl Jobs for Api {
    type RunStream = Events<JobEvent>;
    type FollowStream = Events<JobEvent>;

    async fn run(&self, request: Request<Streaming<RunJobRequest>>) -> Result<Response<Self::RunStream>, Status> {
        let mut messages = request.into_inner();
        let Some(Message::Spec(spec)) = messages.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the first message is no spec"));
        };
        let asked = parse(spec)?;
        let registry = Arc::clone(&self.registry);
        let context = messages.map(|message| match message.map(|message| message.message) {
            Ok(Some(Message::Context(piece))) => Ok(Bytes::from(piece)),
            Ok(_) => Err("a message is no piece of the context".into()),
            Err(status) => Err(status.into()),
        });
        Ok(self.told(|events| async move { Box::pin(run(&registry, asked, context.boxed(), &events)).await }))
    }

    async fn render(&self, request: Request<JobSpec>) -> Result<Response<RenderJobResponse>, Status> {
        let asked = parse(request.into_inner())?;
        if asked.builder.is_some() {
            return Err(Status::failed_precondition(
                "which pod of a builder builds is known only once it is chosen: --dry-run needs --address, or neither",
            ));
        }
        let (_, of_context) =
            located(self.registry.backends(), Some(asked.kubeconfig)).map_err(Status::failed_precondition)?;
        let namespace = asked.namespace.or(of_context).unwrap_or_else(|| "default".to_owned());
        let wanted = asked.wanted;
        let manifests = render(&wanted.node, &wanted.options, &namespace, &wanted.build);
        Ok(Response::new(RenderJobResponse { manifests, warnings: Vec::new() }))
    }

    async fn list(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let ListJobsRequest { place, all_namespaces } = request.into_inner();
        let (jobs, _) = of_place(&self.registry, place)?;
        let found = jobs.list(all_namespaces).await.map_err(|error| status::job(&error))?;
        Ok(Response::new(ListJobsResponse { jobs: found.into_iter().map(job).collect() }))
    }

    async fn follow(&self, request: Request<FollowJobRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let FollowJobRequest { place, follow, tail } = request.into_inner();
        let (jobs, name) = of_place(&self.registry, place)?;
        let name = named(name)?;
        let wanted = JobFollow { follow, tail: (tail > 0).then_some(tail) };
        Ok(self.told(
            |events| async move { jobs.follow(&name, wanted, &events).await.map_err(|error| status::job(&error)) },
        ))
    }

    async fn remove(&self, request: Request<RemoveJobRequest>) -> Result<Response<RemoveJobResponse>, Status> {
        let RemoveJobRequest { place, only_running, only_finished } = request.into_inner();
        let when = match (only_running, only_finished) {
            (false, false) => RemoveWhen::Always,
            (true, false) => RemoveWhen::Running,
            (false, true) => RemoveWhen::Over,
            (true, true) => return Err(Status::invalid_argument("a job is either running or finished")),
        };
        let (jobs, name) = of_place(&self.registry, place)?;
        let name = named(name)?;
        let removed =
            self.complete(async move { jobs.remove(&name, when).await.map_err(|error| status::job(&error)) }).await?;
        Ok(Response::new(RemoveJobResponse { job: Some(job(removed)) }))
    }
}

impl Api {
    /// The events of a command, which is told when its client is gone, and when the daemon drains, by the end of their way: it
    /// ends itself then, because half a Job would be worse than none.
    fn told<F>(&self, command: impl FnOnce(jobs::Events) -> F) -> Response<Events<JobEvent>>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (events, mut heard) = mpsc::channel(EVENTS);
        let (ended, outcome) = oneshot::channel();
        let (answers, receiver) = mpsc::channel(1);
        let command = command(events);
        self.registry.shutdown().spawn(async move {
            // Who no longer listens needs no outcome.
            let _ = ended.send(command.await);
        });
        let shutdown = self.registry.shutdown().clone();
        self.registry.shutdown().spawn(async move {
            let passing = async {
                while let Some(event) = heard.recv().await {
                    let _ = answers.send(Ok(told(event))).await;
                }
            };
            tokio::select! {
                () = passing => {}
                () = answers.closed() => return,
                () = shutdown.draining() => return drop(answers.try_send(Err(status::shutting_down()))),
            }
            if let Ok(Err(failure)) = outcome.await {
                let _ = answers.send(Err(failure)).await;
            }
        });
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }
}

async fn run(
    registry: &Registry,
    asked: Asked,
    context: jobs::Pieces<'_>,
    events: &jobs::Events,
) -> Result<(), Status> {
    let Asked { mut wanted, kubeconfig, namespace, builder, platforms } = asked;
    let (jobs, _lease) = match builder {
        None => {
            let located = located(registry.backends(), Some(kubeconfig));
            let (cluster, of_context) = located.map_err(Status::failed_precondition)?;
            (registry.backends().jobs(cluster, namespace.or(of_context)), None)
        }
        Some(builder) => {
            let at = at_builder(registry, &builder, namespace, &platforms, &mut wanted).await;
            let at = at.map_err(|error| status::job_builder(&error))?;
            (at.jobs, Some(at.lease))
        }
    };
    jobs.run(wanted, context, events).await.map_err(|error| status::job(&error))
}

fn parse(spec: JobSpec) -> Result<Asked, Status> {
    Asked::parse(spec).map_err(|problems| Status::invalid_argument(problems.join("\n")))
}

fn of_place(registry: &Registry, place: Option<JobPlace>) -> Result<(jobs::Jobs, String), Status> {
    let JobPlace { kubeconfig, namespace, name } = place.unwrap_or_default();
    let (context, of_context) = located(registry.backends(), kubeconfig).map_err(Status::failed_precondition)?;
    Ok((registry.backends().jobs(context, some(namespace).or(of_context)), name))
}

fn named(name: String) -> Result<String, Status> {
    some(name).ok_or_else(|| Status::invalid_argument("no job is named"))
}

fn told(event: jobs::JobEvent) -> JobEvent {
    let event = match event {
        jobs::JobEvent::Job(view) => Event::Job(job(view)),
        jobs::JobEvent::News { pod, line } => {
            Event::News(JobNews { pod: pod.unwrap_or_default(), text: line.text, trouble: line.trouble })
        }
        jobs::JobEvent::Output(output) => Event::Output(output.into()),
        jobs::JobEvent::Uploaded(bytes) => Event::Uploaded(bytes),
        jobs::JobEvent::End(jobs::JobEnd { exit_code, state: at, reason, detail }) => {
            Event::End(JobEnd { exit_code, state: state(at).into(), reason, detail: detail.unwrap_or_default() })
        }
    };
    JobEvent { event: Some(event) }
}

fn job(view: jobs::JobView) -> Job {
    Job {
        name: view.name,
        namespace: view.namespace,
        state: state(view.state).into(),
        created: view.created.map(Into::into),
        started: view.started.map(Into::into),
        finished: view.finished.map(Into::into),
        pod: view.pod.unwrap_or_default(),
        title: view.title.unwrap_or_default(),
        host: view.host.unwrap_or_default(),
        reason: view.reason.unwrap_or_default(),
    }
}

fn state(state: jobs::JobState) -> JobState {
    match state {
        jobs::JobState::Preparing => JobState::JobPreparing,
        jobs::JobState::Waiting => JobState::JobWaiting,
        jobs::JobState::Running => JobState::JobRunning,
        jobs::JobState::Succeeded => JobState::JobSucceeded,
        jobs::JobState::Failed => JobState::JobFailed,
        jobs::JobState::Canceled => JobState::JobCanceled,
    }
}
