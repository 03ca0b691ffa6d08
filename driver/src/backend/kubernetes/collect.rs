//! Removes nodes that nobody has used for long, and what is left of nodes that are gone.
//!
//! All times are the API server's own: when it recorded the last note of any daemon, and what it says that time is now. No
//! machine's clock is compared with another's.

use std::collections::BTreeSet;

use http::header::DATE;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{Timestamp, fmt::rfc2822};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions, Resource};
use kube::client::Body;
use serde::de::DeserializeOwned;

use self::verdict::{Verdict, of_leftover, of_workload};
use super::client::{Cluster, Connection};
use super::errors::{Asked, RequestError, ask};
use super::live;
use crate::backend::ApplyError;
use crate::builder::KubeContext;
use crate::manifest::WorkloadKind;
use crate::options::Ttl;
use crate::report;

mod verdict;

/// How often a workload that changes at the same moment is looked at again.
const ATTEMPTS: usize = 5;

/// All that buildfleet makes has it.
const OURS: &str = "app.kubernetes.io/managed-by=buildfleet";

/// The node that an object belongs to.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// What is to be looked for, and where.
#[derive(Debug)]
pub struct Collect {
    pub context: KubeContext,
    /// Without it, that of the context.
    pub namespace: Option<String>,
    pub all_namespaces: bool,
    /// For nodes that have none of their own.
    pub ttl: Option<Ttl>,
    pub dry_run: bool,
    /// Also volumes whose node is gone.
    pub volumes: bool,
    /// The URL of this pod's cluster, when this is a pod that knows it.
    pub api_server: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub namespace: String,
    /// As in `deployment kube0`.
    pub object: String,
    pub fate: Fate,
    /// One clause for people.
    pub why: String,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Or would have been, in a dry run.
    Removed,
    Stays,
    Failed,
}

/// An object that goes with a node.
struct Belonging {
    kind: Kind,
    metadata: ObjectMeta,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Budget,
    Claim,
}

impl Kind {
    fn resource(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Budget => "poddisruptionbudgets",
            Self::Claim => "persistentvolumeclaims",
        }
    }
}

impl Collect {
    /// Looks at all that buildfleet has made there, and removes what nobody uses.
    ///
    /// # Errors
    /// When the cluster cannot be asked for workloads. What could not be removed is told among what was found.
    pub async fn run(self) -> Result<Vec<Found>, ApplyError> {
        let cluster = Cluster::new(self.context.clone(), self.namespace.clone(), self.api_server.clone());
        let connection = cluster.connection().await?;
        let now = now(&connection).await;
        let mut found = Vec::new();
        // Before the workloads: what is made at this moment is made before its workload.
        let belongings = self.belongings(&connection, &mut found).await;
        let mut workloads = Vec::new();
        for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet] {
            let asked = Asked { verb: "list", resource: kind.resource(), name: OURS };
            let listed = match kind {
                WorkloadKind::Deployment => self.listed::<Deployment>(&connection).await,
                WorkloadKind::StatefulSet => self.listed::<StatefulSet>(&connection).await,
            };
            let listed = listed.map_err(|error| asked.apply_error(&connection, error))?;
            workloads.extend(listed.into_iter().map(|metadata| (kind, metadata)));
        }
        workloads.sort_by_key(|(_, metadata)| place(metadata));
        let there: BTreeSet<(String, String)> = workloads.iter().map(|(_, metadata)| place(metadata)).collect();
        for (kind, metadata) in workloads {
            let within = within(&connection, &metadata);
            let (fate, why) = self.workload(&within, kind, metadata.clone(), now).await;
            let object = called(kind.resource(), &metadata);
            found.push(Found { namespace: within.namespace.clone(), object, fate, why });
            if fate == Fate::Removed {
                let node = place(&metadata);
                for belonging in belongings.iter().filter(|belonging| belongs_to(&belonging.metadata) == node) {
                    found.push(self.belonging(&within, belonging, "its node is removed".to_owned()).await);
                }
            }
        }
        for belonging in belongings.iter().filter(|belonging| !there.contains(&belongs_to(&belonging.metadata))) {
            let within = within(&connection, &belonging.metadata);
            found.push(self.leftover(&within, belonging, now).await);
        }
        Ok(found)
    }

    async fn listed<K>(&self, connection: &Connection) -> Result<Vec<ObjectMeta>, RequestError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api: Api<K> = match self.all_namespaces {
            true => Api::all(connection.client.clone()),
            false => live::api(connection),
        };
        // Neither keys nor manifests: their metadata says all.
        let list = ask(api.list_metadata(&ListParams::default().labels(OURS))).await?;
        Ok(list.items.into_iter().map(|found| found.metadata).collect())
    }

    /// What may be left of nodes. Kinds that the account must not list are told.
    async fn belongings(&self, connection: &Connection, found: &mut Vec<Found>) -> Vec<Belonging> {
        let mut belongings = Vec::new();
        for kind in [Kind::Secret, Kind::Budget, Kind::Claim] {
            let listed = match kind {
                Kind::Secret => self.listed::<Secret>(connection).await,
                Kind::Budget => self.listed::<PodDisruptionBudget>(connection).await,
                Kind::Claim => self.listed::<PersistentVolumeClaim>(connection).await,
            };
            match listed {
                Ok(listed) => belongings.extend(listed.into_iter().map(|metadata| Belonging { kind, metadata })),
                Err(error) => {
                    let asked = Asked { verb: "list", resource: kind.resource(), name: OURS };
                    let why = report::chain(&asked.apply_error(connection, error));
                    let (namespace, object) = (connection.namespace.clone(), kind.resource().to_owned());
                    found.push(Found { namespace, object, fate: Fate::Failed, why });
                }
            }
        }
        belongings.sort_by_key(|belonging| place(&belonging.metadata));
        belongings
    }

    async fn workload(
        &self,
        connection: &Connection,
        kind: WorkloadKind,
        mut metadata: ObjectMeta,
        now: Timestamp,
    ) -> (Fate, String) {
        let name = metadata.name.clone().unwrap_or_default();
        let failed = |verb, error| {
            let asked = Asked { verb, resource: kind.resource(), name: &name };
            (Fate::Failed, report::chain(&asked.delete_error(connection, error)))
        };
        for _ in 0..ATTEMPTS {
            let why = match of_workload(&metadata, self.ttl, now) {
                Verdict::Due(why) => why,
                Verdict::Stays(why) => return (Fate::Stays, why),
            };
            if self.dry_run {
                return (Fate::Removed, why);
            }
            // Whoever begins to use it at this moment notes so, and it stays.
            match live::delete(connection, kind, &name, &unchanged(&metadata)).await {
                Ok(()) => return (Fate::Removed, why),
                Err(error) if error.is_conflict() => {}
                Err(error) => return failed("delete", error),
            }
            metadata = match live::find_one(connection, kind, &name).await {
                Ok(Some(found)) => found.metadata().clone(),
                Ok(None) => return (Fate::Removed, "somebody else has removed it".to_owned()),
                Err(error) => return failed("list", error),
            };
        }
        (Fate::Stays, "it changes all the time".to_owned())
    }

    /// Something of a node that has no workload.
    async fn leftover(&self, connection: &Connection, belonging: &Belonging, now: Timestamp) -> Found {
        let stays = |why: String| Found {
            namespace: connection.namespace.clone(),
            object: called(belonging.kind.resource(), &belonging.metadata),
            fate: Fate::Stays,
            why,
        };
        if belonging.kind == Kind::Claim && !self.volumes {
            return stays("a volume may have been kept on purpose: --volumes removes it".to_owned());
        }
        let why = match of_leftover(&belonging.metadata, now) {
            Verdict::Due(why) => why,
            Verdict::Stays(why) => return stays(why),
        };
        let (_, node) = belongs_to(&belonging.metadata);
        // The list is a moment old.
        match live::find(connection, WorkloadKind::Deployment, &node).await {
            Ok(None) => self.belonging(connection, belonging, why).await,
            Ok(Some(_)) => stays("its node was made just now".to_owned()),
            Err(error) => Found { fate: Fate::Failed, ..stays(report::chain(&error)) },
        }
    }

    async fn belonging(&self, connection: &Connection, belonging: &Belonging, why: String) -> Found {
        let Belonging { kind, metadata } = belonging;
        let name = metadata.name.clone().unwrap_or_default();
        let found = |fate, why| {
            let (namespace, object) = (connection.namespace.clone(), called(kind.resource(), metadata));
            Found { namespace, object, fate, why }
        };
        if self.dry_run {
            return found(Fate::Removed, why);
        }
        let params = DeleteParams::background()
            .preconditions(Preconditions { uid: metadata.uid.clone(), ..Preconditions::default() });
        let deleted = match kind {
            Kind::Secret => live::delete_one::<Secret>(connection, &name, &params).await,
            Kind::Budget => live::delete_one::<PodDisruptionBudget>(connection, &name, &params).await,
            Kind::Claim => live::delete_one::<PersistentVolumeClaim>(connection, &name, &params).await,
        };
        match deleted {
            Ok(()) => found(Fate::Removed, why),
            Err(error) => {
                let asked = Asked { verb: "delete", resource: kind.resource(), name: &name };
                found(Fate::Failed, report::chain(&asked.delete_error(connection, error)))
            }
        }
    }
}

/// What time it is there.
async fn now(connection: &Connection) -> Timestamp {
    // Everybody who may log in may ask for it.
    let request = http::Request::get("/version").body(Body::empty());
    let answer = match request {
        Ok(request) => ask(connection.client.send(request)).await.ok(),
        Err(_) => None,
    };
    let date = answer.and_then(|answer| answer.headers().get(DATE)?.to_str().ok().map(str::to_owned));
    let parsed = date.and_then(|date| rfc2822::parse(&date).ok()).map(|date| date.timestamp());
    parsed.unwrap_or_else(|| {
        tracing::warn!("the API server does not say what time it is: this machine's clock is believed");
        Timestamp::now()
    })
}

fn unchanged(metadata: &ObjectMeta) -> DeleteParams {
    DeleteParams::background()
        .preconditions(Preconditions { resource_version: metadata.resource_version.clone(), uid: metadata.uid.clone() })
}

/// The connection in the object's namespace.
fn within(connection: &Connection, metadata: &ObjectMeta) -> Connection {
    let namespace = metadata.namespace.clone().unwrap_or_else(|| connection.namespace.clone());
    Connection { namespace, ..connection.clone() }
}

/// Namespace and name.
fn place(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Namespace and name of the workload that an object belongs to.
fn belongs_to(metadata: &ObjectMeta) -> (String, String) {
    let instance = metadata.labels.as_ref().and_then(|labels| labels.get(INSTANCE)).cloned();
    (metadata.namespace.clone().unwrap_or_default(), instance.unwrap_or_default())
}

fn called(resource: &str, metadata: &ObjectMeta) -> String {
    format!("{} {}", resource.trim_end_matches('s'), metadata.name.as_deref().unwrap_or_default())
}
