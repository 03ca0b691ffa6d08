//! Makes a Job and sees it through: the Job first, then the Secrets that it owns, then its context.
//!
//! Nothing is left whatever happens: a Job that waits for its Secrets is suspended, and they go with it.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::follow::Duty;
use super::telling::Told;
use super::upload::{Pieces, upload};
use super::{BuildPlace, Events, JobBuild, JobEnd, JobError, JobEvent, JobFollow, Jobs, RegistrySecret, made, remove};
use crate::backend::kubernetes::apply::FIELD_MANAGER;
use crate::backend::kubernetes::client::Connection;
use crate::backend::kubernetes::errors::{Asked, RequestError, ask};
use crate::backend::kubernetes::live;
use crate::builder::{Node, PodName};
use crate::manifest::{self, JOB_SELECTOR};
use crate::options::KubernetesOptions;
use crate::report::chain;

/// How long the cluster may take to say why a pod takes no context any more.
const EXPLANATION: Duration = Duration::from_secs(5);

/// On a Job that waits for its Secrets.
const PREPARING: &str = "buildfleet.internal/preparing";

/// Secrets are made within seconds; clocks may differ by minutes.
const ABANDONED_SECONDS: i64 = 15 * 60;

/// Where the credentials may be in a Secret: as `kubectl create secret docker-registry` has them, and as
/// `kubectl create secret generic --from-file=config.json` does.
const REGISTRY_KEYS: [&str; 2] = [RegistrySecret::KEY, "config.json"];

/// A Job to be made.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub node: Node,
    pub options: KubernetesOptions,
    pub build: JobBuild,
    /// What is put into the named Secret for registries when there is none.
    pub docker_config: Option<Vec<u8>>,
    /// Nobody waits for the end.
    pub detach: bool,
}

impl Jobs {
    /// Makes the Job, hands its context over and follows it to its end. Whoever is gone by then needs no more; who goes before
    /// the context is there takes the Job along.
    ///
    /// # Errors
    /// When it could not be made, or did not get its context: then nothing of it is left.
    pub async fn run(&self, wanted: Wanted, context: Pieces<'_>, events: &Events) -> Result<(), JobError> {
        let connection = self.connection().await?;
        let wanted = resolved(&connection, wanted).await?;
        sweep(&connection).await;
        let job = Box::pin(make(&connection, &wanted)).await?;
        let name = job.name_any();
        let _ = events.send(JobEvent::Job(made::view(&job, &[]))).await;
        let end = match Box::pin(self.see_through(&connection, &wanted, job, context, events)).await {
            Ok(end) => end,
            Err(error) => {
                give_up(&connection, &name).await;
                return Err(error);
            }
        };
        if let Some(end) = end {
            let _ = events.send(JobEvent::End(end)).await;
        }
        Ok(())
    }

    async fn see_through(
        &self,
        connection: &Connection,
        wanted: &Wanted,
        job: Job,
        context: Pieces<'_>,
        events: &Events,
    ) -> Result<Option<JobEnd>, JobError> {
        let name = job.name_any();
        let (awaiting, mut awaited) = watch::channel(None);
        let patience = wanted.options.timeout;
        let start_by = Some((Instant::now() + patience, patience));
        let duty = Duty { announces: false, awaiting: &awaiting, start_by };
        let following = JobFollow { follow: true, tail: None };
        let mut told = std::pin::pin!(self.tell(&name, Told::of(job), following, duty, events));
        let handing = async {
            if !wanted.build.uploads_context {
                return Ok(());
            }
            let pod = awaited.wait_for(Option::is_some).await.ok().and_then(|pod| pod.clone()).unwrap_or_default();
            let Ok(pod) = pod.parse::<PodName>() else { return std::future::pending().await };
            upload(connection, &pod, context, events).await
        };
        let handed = tokio::select! {
            biased;
            end = &mut told => return self.settled(connection, &name, end?).await,
            handed = handing => handed,
            () = events.closed() => Err(JobError::BrokenOff),
        };
        match handed {
            Ok(()) if wanted.detach => return Ok(None),
            Ok(()) => {}
            Err(error @ JobError::BrokenOff) => return Err(error),
            // A pod that goes takes the way to it along: its own end says more.
            Err(error) => {
                return match timeout(EXPLANATION, told).await {
                    Ok(Ok(end)) => self.settled(connection, &name, end).await,
                    Ok(Err(_)) | Err(_) => Err(error),
                };
            }
        }
        tokio::select! {
            end = told => self.settled(connection, &name, end?).await,
            () = events.closed() => Ok(None),
        }
    }

    /// A Job that was given up is removed: its pod would be tried again for ever.
    async fn settled(
        &self,
        connection: &Connection,
        name: &str,
        end: Option<JobEnd>,
    ) -> Result<Option<JobEnd>, JobError> {
        let found = self.find(connection, name).await;
        if found.is_ok_and(|job| made::over(&job).is_none()) {
            give_up(connection, name).await;
        }
        Ok(end)
    }
}

async fn give_up(connection: &Connection, name: &str) {
    if let Err(error) = remove::give_up(connection, name).await {
        tracing::warn!(job = name, error = chain(&error), "the job is left");
    }
}

/// Takes what a daemon that was killed has left half made, as nobody else would. What cannot be taken is left to the next.
async fn sweep(connection: &Connection) {
    let params = ListParams::default().labels(JOB_SELECTOR);
    let found = ask(live::api::<Job>(connection).list(&params)).await.map(|list| list.items).unwrap_or_default();
    let now = Timestamp::now();
    for job in found.iter().filter(|job| is_abandoned(job, now)) {
        tracing::info!(job = job.name_any(), "a job was left half made");
        give_up(connection, &job.name_any()).await;
    }
}

fn is_abandoned(job: &Job, now: Timestamp) -> bool {
    let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let is_old = created.is_some_and(|created| now.as_second() - created.as_second() > ABANDONED_SECONDS);
    is_old && job.annotations().contains_key(PREPARING)
}

/// With what only the cluster knows: which Secrets there are, and what is in them.
async fn resolved(connection: &Connection, mut wanted: Wanted) -> Result<Wanted, JobError> {
    if let RegistrySecret::Named { name, key } = &mut wanted.build.registry {
        let found = keys_of(connection, name).await?;
        match (found, &wanted.docker_config) {
            (Some(keys), _) => {
                let known = REGISTRY_KEYS.into_iter().find(|key| keys.iter().any(|found| found == key));
                *key = known.ok_or_else(|| no_key(connection, name, REGISTRY_KEYS[0]))?.to_owned();
            }
            (None, Some(config)) => make_registry_secret(connection, name, config).await?,
            (None, None) => {
                return Err(JobError::NoSecret { name: name.clone(), namespace: connection.namespace.clone() });
            }
        }
    }
    if let BuildPlace::Address { secret, keys: needed, .. } = &wanted.build.place {
        let Some(keys) = keys_of(connection, secret).await? else {
            return Err(JobError::NoSecret { name: secret.clone(), namespace: connection.namespace.clone() });
        };
        if let Some(missing) = needed.iter().find(|key| !keys.contains(key)) {
            return Err(no_key(connection, secret, missing));
        }
    }
    Ok(wanted)
}

fn no_key(connection: &Connection, name: &str, wanted: &str) -> JobError {
    JobError::NoKey { name: name.to_owned(), namespace: connection.namespace.clone(), wanted: wanted.to_owned() }
}

/// The keys of a Secret that is there.
async fn keys_of(connection: &Connection, name: &str) -> Result<Option<Vec<String>>, JobError> {
    let asked = Asked { verb: "get", resource: "secrets", name };
    let found = ask(live::api::<Secret>(connection).get_opt(name)).await;
    let found = found.map_err(|error| asked.apply_error(connection, error))?;
    Ok(found.map(|secret| secret.data.unwrap_or_default().into_keys().collect()))
}

/// One that stays, because it was asked for by name.
async fn make_registry_secret(connection: &Connection, name: &str, config: &[u8]) -> Result<(), JobError> {
    let data = [(RegistrySecret::KEY.to_owned(), ByteString(config.to_owned()))];
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some(data.into()),
        ..Secret::default()
    };
    let asked = Asked { verb: "create", resource: "secrets", name };
    let made = ask(live::api::<Secret>(connection).create(&params(), &secret)).await;
    made.map_err(|error| asked.apply_error(connection, error))?;
    Ok(())
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// The Job with its Secrets, ready to go; nothing at all when one of them cannot be made.
async fn make(connection: &Connection, wanted: &Wanted) -> Result<Job, JobError> {
    let objects = manifest::job(&wanted.node, &wanted.options, &connection.namespace, &wanted.build);
    let mut job = objects.job;
    let name = job.name_any();
    if !objects.secrets.is_empty()
        && let Some(spec) = &mut job.spec
    {
        spec.suspend = Some(true);
        job.metadata.annotations.get_or_insert_default().insert(PREPARING.to_owned(), "true".to_owned());
    }
    let asked = Asked { verb: "create", resource: "jobs", name: &name };
    let job = match ask(live::api::<Job>(connection).create(&params(), &job)).await {
        Ok(job) => job,
        Err(RequestError::Refused { reason, .. }) if reason == "AlreadyExists" => {
            return Err(JobError::Exists { name, namespace: connection.namespace.clone() });
        }
        Err(error) => return Err(asked.apply_error(connection, error).into()),
    };
    if objects.secrets.is_empty() {
        return Ok(job);
    }
    match complete(connection, &job, objects.secrets).await {
        Ok(job) => Ok(job),
        Err(error) => {
            give_up(connection, &name).await;
            Err(error)
        }
    }
}

/// Makes what the Job owns, and lets it go.
async fn complete(connection: &Connection, job: &Job, secrets: Vec<Secret>) -> Result<Job, JobError> {
    let owner = OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    for mut secret in secrets {
        secret.metadata.owner_references = Some(vec![owner.clone()]);
        let name = secret.name_any();
        let asked = Asked { verb: "create", resource: "secrets", name: &name };
        let made = ask(live::api::<Secret>(connection).create(&params(), &secret)).await;
        made.map_err(|error| asked.apply_error(connection, error))?;
    }
    let name = job.name_any();
    let asked = Asked { verb: "patch", resource: "jobs", name: &name };
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let resumed = Patch::Merge(json!({"metadata": {"annotations": {PREPARING: null}}, "spec": {"suspend": false}}));
    let resumed = ask(live::api::<Job>(connection).patch(&name, &params, &resumed)).await;
    Ok(resumed.map_err(|error| asked.apply_error(connection, error))?)
}
