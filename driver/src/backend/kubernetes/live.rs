//! The workload that is in the cluster: looked up by its name with no other right than to list, changed, and deleted.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::Connection;
use super::errors::{RequestError, ask};
use crate::manifest::{Workload, WorkloadKind};

/// Whose the notes of daemons are: not the fields that an apply takes back when it does not name them.
pub(super) const NOTES_MANAGER: &str = "buildfleet-notes";

/// The one of the kind, or else of the other kind, which the node may have had before. Who has no right to see that one has
/// none to have made it.
pub(super) async fn find(
    connection: &Connection,
    kind: WorkloadKind,
    name: &str,
) -> Result<Option<Workload>, RequestError> {
    if let Some(found) = find_one(connection, kind, name).await? {
        return Ok(Some(found));
    }
    match find_one(connection, other(kind), name).await {
        Err(error) if error.is_forbidden() => Ok(None),
        found => found,
    }
}

pub(super) fn other(kind: WorkloadKind) -> WorkloadKind {
    match kind {
        WorkloadKind::Deployment => WorkloadKind::StatefulSet,
        WorkloadKind::StatefulSet => WorkloadKind::Deployment,
    }
}

pub(super) async fn find_one(
    connection: &Connection,
    kind: WorkloadKind,
    name: &str,
) -> Result<Option<Workload>, RequestError> {
    Ok(match kind {
        WorkloadKind::Deployment => listed::<Deployment>(connection, name).await?.map(Workload::Deployment),
        WorkloadKind::StatefulSet => listed::<StatefulSet>(connection, name).await?.map(Workload::StatefulSet),
    })
}

async fn listed<K>(connection: &Connection, name: &str) -> Result<Option<K>, RequestError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let list = ask(api::<K>(connection).list(&params)).await?;
    Ok(list.items.into_iter().find(|found| found.meta().name.as_deref() == Some(name)))
}

/// Server-side apply of a workload in our name.
pub(super) async fn apply(
    connection: &Connection,
    name: &str,
    wanted: &Workload,
    params: &PatchParams,
) -> Result<Workload, RequestError> {
    Ok(match wanted {
        Workload::Deployment(wanted) => Workload::Deployment(applied(connection, name, wanted, params).await?),
        Workload::StatefulSet(wanted) => Workload::StatefulSet(applied(connection, name, wanted, params).await?),
    })
}

/// Server-side apply of any object.
pub(super) async fn applied<K>(
    connection: &Connection,
    name: &str,
    wanted: &K,
    params: &PatchParams,
) -> Result<K, RequestError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
{
    ask(api::<K>(connection).patch(name, params, &Patch::Apply(wanted))).await
}

/// Changes a workload where `patch` says, and nowhere else.
pub(super) async fn merge(
    connection: &Connection,
    kind: WorkloadKind,
    name: &str,
    patch: &Value,
) -> Result<Workload, RequestError> {
    let params = PatchParams { field_manager: Some(NOTES_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(patch);
    Ok(match kind {
        WorkloadKind::Deployment => {
            Workload::Deployment(ask(api::<Deployment>(connection).patch(name, &params, &patch)).await?)
        }
        WorkloadKind::StatefulSet => {
            Workload::StatefulSet(ask(api::<StatefulSet>(connection).patch(name, &params, &patch)).await?)
        }
    })
}

/// What is not there is deleted already.
pub(super) async fn delete(
    connection: &Connection,
    kind: WorkloadKind,
    name: &str,
    params: &DeleteParams,
) -> Result<(), RequestError> {
    match kind {
        WorkloadKind::Deployment => delete_one::<Deployment>(connection, name, params).await,
        WorkloadKind::StatefulSet => delete_one::<StatefulSet>(connection, name, params).await,
    }
}

pub(super) async fn delete_one<K>(
    connection: &Connection,
    name: &str,
    params: &DeleteParams,
) -> Result<(), RequestError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    match ask(api::<K>(connection).delete(name, params)).await {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

pub(super) fn api<K>(connection: &Connection) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(connection.client.clone(), &connection.namespace)
}
