//! The watches of one Job: the Job itself, its pods, and the events that say why one does not start. Nothing is polled.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::watcher::Config;
use tokio::time::timeout;

use super::telling::Told;
use crate::backend::kubernetes::client::Connection;
use crate::backend::kubernetes::errors::RequestError;
use crate::backend::kubernetes::follow::{self, linger, next_of, request_error, watch_failed};
use crate::backend::kubernetes::live;
use crate::backend::kubernetes::logs;
use crate::report::chain;

/// What Kubernetes itself puts on the pods of a Job: its identity.
const OWNER_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// How long the first look may take until what is known is told without it.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// They end when they are dropped.
pub(super) struct Watched {
    connection: Connection,
    name: String,
    jobs: follow::Watched<'static, Job>,
    pods: follow::Watched<'static, Pod>,
    pod_events: Option<follow::Watched<'static, Event>>,
    job_events: Option<follow::Watched<'static, Event>>,
    crash_logs: futures::stream::FuturesUnordered<futures::future::BoxFuture<'static, CrashLog>>,
    /// Whether the pods were listed once.
    looked: bool,
}

type CrashLog = (String, crate::backend::kubernetes::story::Crash, Result<String, RequestError>);

impl Watched {
    /// Of the pods, only those of the Job with this identity: one of its name that was removed may still have some.
    pub(super) fn begin(connection: &Connection, name: &str, uid: &str) -> Self {
        let by_name = Config::default().fields(&format!("metadata.name={name}"));
        let of_job = Config::default().labels(&format!("{OWNER_LABEL}={uid}"));
        Self {
            jobs: follow::watched(live::api::<Job>(connection), by_name).boxed(),
            pods: follow::watched(live::api::<Pod>(connection), of_job).boxed(),
            pod_events: None,
            job_events: None,
            crash_logs: futures::stream::FuturesUnordered::new(),
            connection: connection.clone(),
            name: name.to_owned(),
            looked: false,
        }
    }

    /// Waits for the first look at the pods.
    pub(super) async fn first(&mut self, told: &mut Told) {
        let looked = async {
            while !self.looked {
                self.next(told).await;
            }
        };
        // Who is not reached by then is told of as such.
        let _ = timeout(FIRST_LOOK, looked).await;
    }

    /// Waits for the next thing that is said, and adds it to what is known; true when the credentials are refused.
    pub(super) async fn next(&mut self, told: &mut Told) -> bool {
        self.adapt(told);
        let is_over = self.pod_events.is_some() && !told.view.wants_events();
        tokio::select! {
            Some(next) = self.jobs.next() => match next {
                Ok(event) => told.job(event),
                Err(error) => return self.failed(told, "jobs", &request_error(error)),
            },
            Some(next) = self.pods.next() => match next {
                Ok(event) => {
                    self.looked |= matches!(event, kube::runtime::watcher::Event::InitDone);
                    told.pod(event);
                }
                Err(error) => return self.failed(told, "pods", &request_error(error)),
            },
            Some(next) = next_of(&mut self.pod_events) => match next {
                Ok(event) => told.view.event(event),
                Err(error) => self.events_failed(told, &request_error(error)),
            },
            Some(next) = next_of(&mut self.job_events) => match next {
                Ok(event) => told.job_event(&event),
                Err(error) => self.events_failed(told, &request_error(error)),
            },
            Some((pod, crash, read)) = self.crash_logs.next() => match read {
                Ok(text) => told.view.crash_output(pod, crash, &text),
                Err(error) => tracing::debug!(pod, error = chain(&error), "the output of an init container cannot be read"),
            },
            () = linger(is_over) => self.pod_events = None,
        }
        false
    }

    /// Watches what can say something now.
    fn adapt(&mut self, told: &mut Told) {
        let events = |fields: &str| {
            let config = Config::default().fields(fields);
            follow::watched(live::api::<Event>(&self.connection), config).boxed()
        };
        if self.pod_events.is_none() && told.view.wants_events() {
            self.pod_events = Some(events("involvedObject.kind=Pod"));
        }
        match (self.looked && told.needs_job_events(), &self.job_events) {
            (true, None) => {
                let fields = format!("involvedObject.kind=Job,involvedObject.name={}", self.name);
                self.job_events = Some(events(&fields));
            }
            (false, Some(_)) => self.job_events = None,
            _ => {}
        }
        for (pod, crash) in told.view.crashes_to_read() {
            let connection = self.connection.clone();
            self.crash_logs.push(Box::pin(async move {
                let read = logs::crash_log(&connection, &pod, &crash).await;
                (pod, crash, read)
            }));
        }
    }

    fn failed(&self, told: &mut Told, resource: &str, error: &RequestError) -> bool {
        told.view.pods_failed(watch_failed(resource, &self.connection, error));
        error.is_unauthorized()
    }

    fn events_failed(&mut self, told: &mut Told, error: &RequestError) {
        tracing::debug!(error = chain(error), "the watch of events failed");
        if error.is_forbidden() {
            let namespace = &self.connection.namespace;
            told.view.events_refused(format!(
                "not allowed to watch events in namespace {namespace}: why a pod does not start may stay unknown"
            ));
            (self.pod_events, self.job_events) = (None, None);
        }
    }
}
