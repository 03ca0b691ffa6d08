//! Removes the node's objects, unless others use them. What is not there is removed already.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};

use super::client::Connection;
use super::errors::{Asked, RequestError, is_unauthorized};
use super::marks::{Marks, Order};
use super::{Target, live, volumes};
use crate::backend::{DeleteError, Removal, Removed};
use crate::manifest::{self, Objects, WorkloadKind};

/// How often a workload that changes at the same moment is looked at again.
const ATTEMPTS: usize = 5;

/// Tries every object, whatever happens to the others, and reports the first failure with the rest of them in it. An API
/// server that does not answer is not asked twice.
pub(super) async fn remove(connection: &Connection, target: &Target, removal: Removal) -> Result<Removed, DeleteError> {
    if removal.let_go {
        return let_go(connection, target).await;
    }
    let (kind, name) = (manifest::workload_kind(&target.options), target.workload_name());
    // The pods first: they hold everything else.
    let mut failures = match workload(connection, target, removal).await {
        Ok(Some(users)) => return Ok(Removed::Released { users }),
        Ok(None) => Vec::new(),
        Err(error @ DeleteError::Unreachable { .. }) => return Err(error),
        Err(error) => vec![error],
    };
    let mut done = |resource, name: &str, right, deleted: Result<(), RequestError>| match deleted {
        Ok(()) => {}
        Err(error) if right == Right::Spare && error.is_forbidden() => {
            tracing::debug!(resource, name, "not allowed to look for what other options may have left");
        }
        Err(error) => failures.push(Asked { verb: "delete", resource, name }.delete_error(connection, error)),
    };
    let background = DeleteParams::background();
    let Objects { config, budget, .. } = manifest::objects(&target.node, &target.options, &connection.namespace, 0);
    // What these options do not ask for can only be left of others, and who had no right could make none.
    let other = live::other(kind);
    done(other.resource(), &name, Right::Spare, live::delete(connection, other, &name, &background).await);
    let right = Right::needed_if(budget.is_some());
    let deleted = live::delete_one::<PodDisruptionBudget>(connection, &name, &background).await;
    done("poddisruptionbudgets", &name, right, deleted);
    for (secret, needed) in
        [(target.config_name(), config.is_some()), (target.secret_name(), target.options.transport.needs_tls())]
    {
        let deleted = live::delete_one::<Secret>(connection, &secret, &background).await;
        done("secrets", &secret, Right::needed_if(needed), deleted);
    }
    let mut kept = Vec::new();
    if kind == WorkloadKind::StatefulSet {
        match volumes::claims(connection, target).await {
            Ok(found) if removal.keep_state => {
                kept.extend(found.iter().map(|claim| format!("persistentvolumeclaim {}", claim.name_any())));
            }
            Ok(found) => {
                for claim in found.iter().map(ResourceExt::name_any) {
                    let deleted = live::delete_one::<PersistentVolumeClaim>(connection, &claim, &background).await;
                    done("persistentvolumeclaims", &claim, Right::Needed, deleted);
                }
            }
            Err(error) => {
                let asked = Asked { verb: "list", resource: "persistentvolumeclaims", name: &name };
                failures.push(asked.delete_error(connection, error));
            }
        }
    }
    match first_of(failures) {
        Some(error) => Err(error),
        None => Ok(Removed::Gone { kept }),
    }
}

/// Deletes the workload, or only takes our mark from it and returns who else uses it.
async fn workload(
    connection: &Connection,
    target: &Target,
    removal: Removal,
) -> Result<Option<Vec<String>>, DeleteError> {
    let (kind, name) = (manifest::workload_kind(&target.options), target.workload_name());
    let failed = |verb, kind: WorkloadKind| {
        let name = name.clone();
        move |error| Asked { verb, resource: kind.resource(), name: &name }.delete_error(connection, error)
    };
    let mut attempt = 1;
    loop {
        let found = live::find(connection, kind, &name).await.map_err(failed("list", kind))?;
        let Some(found) = found else {
            return Ok(None);
        };
        let (kind, marks) = (found.kind(), Marks::of(found.metadata()));
        // What buildfleet did not make is not removed by force either: that is for what others use.
        if marks.order("", &target.us) == Order::Foreign {
            return Ok(Some(Vec::new()));
        }
        if !removal.force {
            let others = marks.others(&target.us);
            if !others.is_empty() {
                let patch = Marks::forgetting(&target.us);
                live::merge(connection, kind, &name, &patch).await.map_err(failed("patch", kind))?;
                return Ok(Some(others));
            }
        }
        // Somebody may begin to use it at this moment.
        let unchanged = Preconditions {
            resource_version: found.metadata().resource_version.clone(),
            uid: found.metadata().uid.clone(),
        };
        let params = DeleteParams::background().preconditions(unchanged);
        match live::delete(connection, kind, &name, &params).await {
            Ok(()) => return Ok(None),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(failed("delete", kind)(error)),
        }
    }
}

/// Takes our mark from the workload, where it has one.
async fn let_go(connection: &Connection, target: &Target) -> Result<Removed, DeleteError> {
    let (kind, name) = (manifest::workload_kind(&target.options), target.workload_name());
    let failed = |verb, kind: WorkloadKind| {
        let name = name.clone();
        move |error| Asked { verb, resource: kind.resource(), name: &name }.delete_error(connection, error)
    };
    let found = live::find(connection, kind, &name).await.map_err(failed("list", kind))?;
    if let Some(found) = found.filter(|found| Marks::of(found.metadata()).knows(&target.us)) {
        let patch = Marks::forgetting(&target.us);
        live::merge(connection, found.kind(), &name, &patch).await.map_err(failed("patch", found.kind()))?;
    }
    Ok(Removed::LetGo)
}

/// Whether the documented Role has the right to delete an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Needed,
    Spare,
}

impl Right {
    fn needed_if(needed: bool) -> Self {
        if needed { Self::Needed } else { Self::Spare }
    }
}

/// One error out of all; what the caller can do something about comes first.
fn first_of(mut failures: Vec<DeleteError>) -> Option<DeleteError> {
    let of_credentials = |error: &DeleteError| match error {
        DeleteError::Refused { source, .. } => is_unauthorized(&**source),
        DeleteError::Unreachable { .. } => false,
    };
    if let Some(at) = failures.iter().position(of_credentials) {
        return Some(failures.swap_remove(at));
    }
    if failures.len() <= 1 {
        return failures.pop();
    }
    let object = |error: &DeleteError| match error {
        DeleteError::Refused { object, .. } => object.clone(),
        DeleteError::Unreachable { what, .. } => what.clone(),
    };
    Some(DeleteError::Refused {
        object: failures.iter().map(object).collect::<Vec<_>>().join(" and "),
        source: failures.iter().map(|error| crate::report::chain(error)).collect::<Vec<_>>().join("; ").into(),
    })
}
