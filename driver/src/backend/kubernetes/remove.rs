//! Removes the node's objects. What is not there is removed already.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Resource};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;

use super::Target;
use super::client::Connection;
use super::errors::{Asked, ask, is_unauthorized};
use crate::backend::DeleteError;
use crate::manifest::{self, WorkloadKind};

/// Tries every object, whatever happens to the others, and reports the first failure with the rest of them in it. An API
/// server that does not answer is not asked twice.
pub(super) async fn remove(connection: &Connection, target: &Target) -> Result<(), DeleteError> {
    let (workload, kind) = (target.workload_name(), manifest::workload_kind(&target.options));
    let secret = target.secret_name();
    // The pods first: they hold the Secret.
    let pods = match kind {
        WorkloadKind::Deployment => {
            remove_one::<Deployment>(connection, kind.resource(), &workload, Right::Needed).await
        }
        WorkloadKind::StatefulSet => {
            remove_one::<StatefulSet>(connection, kind.resource(), &workload, Right::Needed).await
        }
    };
    if let Err(DeleteError::Unreachable { .. }) = pods {
        return pods;
    }
    // Without TLS one can only be left of another transport that the node had, and who had no right could make none.
    let right = if target.options.transport.needs_tls() { Right::Needed } else { Right::Spare };
    let outcomes = [pods, remove_one::<Secret>(connection, "secrets", &secret, right).await];
    let mut failures: Vec<DeleteError> = outcomes.into_iter().filter_map(Result::err).collect();
    let of_credentials = |error: &DeleteError| match error {
        DeleteError::Refused { source, .. } => is_unauthorized(&**source),
        DeleteError::Unreachable { .. } => false,
    };
    if let Some(at) = failures.iter().position(of_credentials) {
        // The caller can do something about it.
        return Err(failures.swap_remove(at));
    }
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => Err(DeleteError::Refused {
            object: format!("{} {workload} and secret {secret}", kind.resource().trim_end_matches('s')),
            source: failures.iter().map(|error| crate::report::chain(error)).collect::<Vec<_>>().join("; ").into(),
        }),
    }
}

/// Whether the documented Role has the right to delete an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Needed,
    Spare,
}

async fn remove_one<K>(
    connection: &Connection,
    resource: &'static str,
    name: &str,
    right: Right,
) -> Result<(), DeleteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + ResourceExt
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(connection.client.clone(), &connection.namespace);
    match ask(api.delete(name, &DeleteParams::background())).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if right == Right::Spare && error.is_forbidden() => {
            tracing::debug!(resource, name, "not allowed to look for what another transport may have left");
            Ok(())
        }
        Err(error) => Err(Asked { verb: "delete", resource, name }.delete_error(connection, error)),
    }
}
