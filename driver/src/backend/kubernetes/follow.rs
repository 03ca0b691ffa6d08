//! Keeps the snapshot current by watches, for as long as the backend lives. Nothing is polled.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, DefaultBackoff, watcher};
use tokio::sync::watch;

use super::client::{Cluster, Connection};
use super::drift::{self, Look};
use super::errors::RequestError;
use super::view::View;
use super::{Target, logs};
use crate::backend::Pods;
use crate::builder::NodeName;
use crate::manifest::{Workload, WorkloadKind};
use crate::report::chain;

/// How long the events of a pod are followed after it began to run: the last ones come late.
const EVENTS_LINGER: Duration = Duration::from_secs(2);

/// After which an API server that has said nothing yet is told of. A request to it is given much longer.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// The view and its snapshots.
#[derive(Debug)]
pub(super) struct Shared {
    view: Mutex<View>,
    snapshots: watch::Sender<Pods>,
}

impl Shared {
    pub(super) fn new(view: View) -> Self {
        Self { view: Mutex::new(view), snapshots: watch::Sender::new(Pods::unknown()) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Pods> {
        self.snapshots.subscribe()
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the view and tells of it if anybody could see the difference.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut view);
        let now = view.snapshot();
        self.snapshots.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
        result
    }
}

/// What leads to the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    Workload(WorkloadKind),
    Service,
    /// The one pod itself.
    Pod,
}

impl Lead {
    /// As `kubectl` names the kind.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Workload(WorkloadKind::Deployment) => "deployment",
            Self::Workload(WorkloadKind::StatefulSet) => "statefulset",
            Self::Service => "service",
            Self::Pod => "pod",
        }
    }

    fn resource(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.resource(),
            Self::Service => "services",
            Self::Pod => "pods",
        }
    }
}

/// What is followed.
#[derive(Debug)]
pub(super) struct Followed {
    /// For the log.
    pub(super) node: NodeName,
    pub(super) lead: Lead,
    /// Of what leads to the pods.
    pub(super) name: String,
    /// What selects the pods; `None` where what leads to them says that.
    pub(super) selector: Option<String>,
    /// Whose options the workload should have; `None` when it is somebody else's.
    pub(super) target: Option<Arc<Target>>,
}

impl Followed {
    fn pods(&self, of_lead: Option<String>) -> Option<Config> {
        match self.lead {
            Lead::Pod => Some(Config::default().fields(&format!("metadata.name={}", self.name))),
            Lead::Workload(_) | Lead::Service => {
                let selector = self.selector.clone().or(of_lead)?;
                Some(Config::default().labels(&selector))
            }
        }
    }
}

/// Runs until it is dropped.
pub(super) async fn follow(cluster: Arc<Cluster>, followed: Followed, shared: Arc<Shared>) {
    let mut pauses = DefaultBackoff::default();
    loop {
        match cluster.connection().await {
            Ok(connection) => {
                shared.change(|view| view.disconnected(None));
                follow_connection(&connection, &followed, &shared).await;
                tracing::warn!(server = %connection.server, "the API server refuses the credentials, reading them again");
                cluster.forget();
            }
            Err(error) => {
                tracing::warn!(node = %followed.node, error = chain(&error), "no connection to the cluster");
                shared.change(|view| view.disconnected(Some(chain(&error))));
                cluster.forget();
            }
        }
        tokio::time::sleep(pauses.next().unwrap_or(EVENTS_LINGER)).await;
    }
}

/// Returns when the credentials are refused.
async fn follow_connection(connection: &Connection, followed: &Followed, shared: &Shared) {
    let namespace = &connection.namespace;
    let client = || connection.client.clone();
    let by_name = Config::default().fields(&format!("metadata.name={}", followed.name));
    let mut leads = match followed.lead {
        Lead::Workload(WorkloadKind::Deployment) => {
            let deployments = watched(Api::<Deployment>::namespaced(client(), namespace), by_name);
            deployments.map(|next| next.map(|event| Led::By(Box::new(mapped(event, Workload::Deployment))))).boxed()
        }
        Lead::Workload(WorkloadKind::StatefulSet) => {
            let sets = watched(Api::<StatefulSet>::namespaced(client(), namespace), by_name);
            sets.map(|next| next.map(|event| Led::By(Box::new(mapped(event, Workload::StatefulSet))))).boxed()
        }
        Lead::Service => {
            let services = watched(Api::<Service>::namespaced(client(), namespace), by_name);
            services.map(|next| next.map(|event| Led::BySelector(Box::new(event)))).boxed()
        }
        Lead::Pod => futures::stream::pending().boxed(),
    };
    let resource = followed.lead.resource();
    let mut selected = None;
    let mut pods: Option<Watched<'_, Pod>> = None;
    let mut events: Option<Watched<'_, Event>> = None;
    let mut crash_logs = FuturesUnordered::new();
    let mut looks = FuturesUnordered::new();
    let mut first_answer = pin!(tokio::time::sleep(FIRST_ANSWER));
    let mut heard = false;
    loop {
        if let Some(config) = followed.pods(shared.read(View::selector)) {
            // A workload that was made anew may have other pods.
            let of_pods = (config.label_selector.clone(), config.field_selector.clone());
            if selected.as_ref() != Some(&of_pods) {
                selected = Some(of_pods);
                pods = Some(watched(Api::<Pod>::namespaced(client(), namespace), config).boxed());
            }
        }
        let is_over = events.is_some() && !shared.read(View::wants_events);
        tokio::select! {
            Some(next) = leads.next() => match next {
                Ok(event) => {
                    heard = true;
                    shared.change(|view| {
                        view.disconnected(None);
                        match event {
                            Led::By(event) => view.workload(*event),
                            Led::BySelector(event) => view.service(*event),
                        }
                    });
                }
                Err(error) => {
                    heard = true;
                    let error = request_error(error);
                    shared.change(|view| {
                        view.disconnected(None);
                        view.lead_failed(watch_failed(resource, connection, &error));
                    });
                    if error.is_unauthorized() {
                        return;
                    }
                }
            },
            Some(next) = next_of(&mut pods) => match next {
                Ok(event) => {
                    heard = true;
                    shared.change(|view| view.pod(event));
                }
                Err(error) => {
                    heard = true;
                    let error = request_error(error);
                    shared.change(|view| view.pods_failed(watch_failed("pods", connection, &error)));
                    if error.is_unauthorized() {
                        return;
                    }
                }
            },
            Some(next) = next_of(&mut events) => match next {
                Ok(event) => shared.change(|view| view.event(event)),
                Err(error) => {
                    let error = request_error(error);
                    tracing::debug!(error = chain(&error), "the watch of events failed");
                    if error.is_forbidden() {
                        let note = format!(
                            "not allowed to watch events in namespace {namespace}: why a pod does not start may stay unknown"
                        );
                        shared.change(|view| view.events_refused(note));
                        events = None;
                    }
                }
            },
            Some((pod, crash, read)) = crash_logs.next() => match read {
                Ok(text) => {
                    let text: String = text;
                    shared.change(|view| view.crash_output(pod, crash, &text));
                }
                Err(error) => {
                    let error: RequestError = error;
                    tracing::debug!(pod, error = chain(&error), "the output of a crashed container cannot be read");
                }
            },
            Some((workload, look)) = looks.next() => match look {
                Ok(look) => {
                    let (workload, look): (Workload, Look) = (workload, look);
                    if let Some(drift) = &look.drift {
                        tracing::warn!(node = %followed.node, "{drift}");
                    }
                    shared.change(|view| view.looked(&workload, look));
                }
                Err(error) => {
                    let error: RequestError = error;
                    tracing::debug!(error = chain(&error), "whether somebody has changed the workload cannot be found out");
                }
            },
            () = linger(is_over) => events = None,
            () = &mut first_answer, if !heard => {
                heard = true;
                let silent = format!("{} has not answered for {} s", connection.server, FIRST_ANSWER.as_secs());
                shared.change(|view| view.disconnected(Some(silent)));
            }
        }
        if events.is_none() && shared.read(View::wants_events) {
            let api = Api::<Event>::namespaced(client(), namespace);
            events = Some(watched(api, Config::default().fields("involvedObject.kind=Pod")).boxed());
        }
        if let Some(target) = &followed.target
            && let Some(workload) = shared.change(View::look_due)
        {
            looks.push(async move {
                let look = drift::look(connection, target, workload.clone()).await;
                (workload, look)
            });
        }
        for (pod, crash) in shared.change(View::crashes_to_read) {
            crash_logs.push(async move {
                let read = logs::crash_log(connection, &pod, &crash).await;
                (pod, crash, read)
            });
        }
    }
}

pub(super) fn watched<K>(api: Api<K>, config: Config) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, config).default_backoff()
}

/// What is told of what leads to the pods.
enum Led {
    By(Box<watcher::Event<Workload>>),
    BySelector(Box<watcher::Event<Service>>),
}

/// The same event about another view of its object.
pub(super) fn mapped<K, T>(event: watcher::Event<K>, map: impl FnOnce(K) -> T) -> watcher::Event<T> {
    match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(map(object)),
        watcher::Event::Delete(object) => watcher::Event::Delete(map(object)),
        watcher::Event::InitApply(object) => watcher::Event::InitApply(map(object)),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}

pub(super) type Watched<'a, K> = BoxStream<'a, watcher::Result<watcher::Event<K>>>;

pub(super) async fn next_of<K>(watched: &mut Option<Watched<'_, K>>) -> Option<watcher::Result<watcher::Event<K>>> {
    match watched {
        Some(watched) => watched.next().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn linger(is_over: bool) {
    match is_over {
        true => tokio::time::sleep(EVENTS_LINGER).await,
        false => std::future::pending().await,
    }
}

pub(super) fn watch_failed(resource: &str, connection: &Connection, error: &RequestError) -> String {
    let namespace = &connection.namespace;
    match error.is_forbidden() {
        true => format!("not allowed to watch {resource} in namespace {namespace}: {}", chain(error)),
        false => format!("failed to watch {resource} at {}: {}", connection.server, chain(error)),
    }
}

pub(super) fn request_error(error: watcher::Error) -> RequestError {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.into(),
        watcher::Error::WatchError(status) => status.into(),
        other @ watcher::Error::NoResourceVersion => RequestError::Lost(other.into()),
    }
}
