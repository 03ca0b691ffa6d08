//! The volumes of a StatefulSet's pods: which there are, how they grow, and what about them can never change.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::time::Instant;

use super::apply::obstructed;
use super::client::Connection;
use super::errors::{Asked, RequestError, ask};
use super::{Target, live};
use crate::backend::{ApplyError, Change, Obstacle};
use crate::manifest::{self, Workload, WorkloadKind};
use crate::options::Quantity;

const RESOURCE: &str = "persistentvolumeclaims";

/// What the cluster may take to let go of a StatefulSet whose pods stay.
const REPLACED: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(200);

/// The claims of the node's pods, also of pods that are no more.
pub(super) async fn claims(
    connection: &Connection,
    target: &Target,
) -> Result<Vec<PersistentVolumeClaim>, RequestError> {
    let params = ListParams::default().labels(&manifest::selector(&target.node));
    let list = ask(live::api::<PersistentVolumeClaim>(connection).list(&params)).await?;
    let workload = target.workload_name();
    Ok(list.items.into_iter().filter(|claim| is_of(&claim.name_any(), &workload)).collect())
}

/// `TEMPLATE-WORKLOAD-NUMBER`, as the StatefulSet's controller calls them.
fn is_of(claim: &str, workload: &str) -> bool {
    let numbered = claim.rsplit_once('-').filter(|(_, number)| number.parse::<u32>().is_ok());
    numbered.is_some_and(|(rest, _)| rest.strip_suffix(workload).is_some_and(|template| template.ends_with('-')))
}

/// Does what has to be done before `wanted` can take the place of `before`.
pub(super) async fn make_way(
    connection: &Connection,
    target: &Target,
    before: &Workload,
    wanted: &Workload,
) -> Result<(), ApplyError> {
    let name = target.workload_name();
    if before.kind() == WorkloadKind::Deployment && wanted.kind() == WorkloadKind::Deployment {
        return Ok(());
    }
    let found = claims(connection, target).await;
    let found = found
        .map_err(|error| Asked { verb: "list", resource: RESOURCE, name: &name }.apply_error(connection, error))?;
    if let Some(obstacle) = obstacle(target, before, wanted, &found) {
        return Err(obstructed(&name, obstacle));
    }
    let Workload::StatefulSet(wanted) = wanted else { return Ok(()) };
    grow(connection, wanted, &found, false).await?;
    match before {
        Workload::StatefulSet(before) if grows(before, wanted) => replace(connection, target, before).await,
        _ => Ok(()),
    }
}

/// What keeps `wanted` from taking the place of `before`, whose claims are `found`.
pub(super) fn obstacle(
    target: &Target,
    before: &Workload,
    wanted: &Workload,
    found: &[PersistentVolumeClaim],
) -> Option<Obstacle> {
    let node = &target.node.name;
    let anew = format!(
        "remove the node with its volumes and create it again: `buildfleet rm`, or `create --leave --node {node}`"
    );
    match (before, wanted) {
        (Workload::StatefulSet(_), Workload::Deployment(_)) if !found.is_empty() => {
            let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
            Some(Obstacle {
                what: format!(
                    "node {node} keeps its state in volumes ({}), which a node without persistent-volume-claim.requests.storage has not",
                    names.join(", ")
                ),
                hint: anew,
            })
        }
        (Workload::StatefulSet(before), Workload::StatefulSet(wanted)) => {
            let what = templates(wanted).iter().find_map(|template| {
                let old = templates(before).iter().find(|old| old.metadata.name == template.metadata.name)?;
                fixed(old.spec.as_ref()?, template.spec.as_ref()?)
            })?;
            Some(Obstacle {
                what: format!("the volumes of node {node} cannot change: {what}"),
                hint: format!("give what they have, or {anew}"),
            })
        }
        _ => None,
    }
}

/// What differs between two templates and can never change.
fn fixed(old: &PersistentVolumeClaimSpec, new: &PersistentVolumeClaimSpec) -> Option<String> {
    if old.storage_class_name != new.storage_class_name {
        let named = |class: &Option<String>| {
            class.as_ref().map_or("the cluster's default".to_owned(), |name| format!("`{name}`"))
        };
        return Some(format!(
            "their storage class is {}, not {}",
            named(&old.storage_class_name),
            named(&new.storage_class_name)
        ));
    }
    if old.access_modes != new.access_modes {
        let named = |modes: &Option<Vec<String>>| modes.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        return Some(format!("their access mode is {}, not {}", named(&old.access_modes), named(&new.access_modes)));
    }
    let (old, new) = (storage(old)?, storage(new)?);
    old.exceeds(&new).then(|| format!("they have {old} and cannot shrink to {new}"))
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// Gives `wanted` the templates that are there: an API server refuses others, even when it only tries.
pub(super) fn keep_templates(before: &Workload, wanted: &mut Workload) {
    if let (Workload::StatefulSet(before), Workload::StatefulSet(wanted)) = (before, wanted)
        && let Some(spec) = &mut wanted.spec
    {
        spec.volume_claim_templates = Some(templates(before).to_vec());
    }
}

fn storage(spec: &PersistentVolumeClaimSpec) -> Option<Quantity> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.parse().ok()
}

/// Whether `wanted` asks for more storage in a template that `before` has.
pub(super) fn grows(before: &StatefulSet, wanted: &StatefulSet) -> bool {
    templates(wanted).iter().any(|template| {
        let old = templates(before).iter().find(|old| old.metadata.name == template.metadata.name);
        let old = old.and_then(|old| storage(old.spec.as_ref()?));
        let new = template.spec.as_ref().and_then(storage);
        old.zip(new).is_some_and(|(old, new)| new.exceeds(&old))
    })
}

/// Makes every claim that is there as large as the templates of `wanted` say, or with `dry_run` finds out whether that can
/// be done.
pub(super) async fn grow(
    connection: &Connection,
    wanted: &StatefulSet,
    found: &[PersistentVolumeClaim],
    dry_run: bool,
) -> Result<Vec<Change>, ApplyError> {
    let api = live::api::<PersistentVolumeClaim>(connection);
    let mut changes = Vec::new();
    for template in templates(wanted) {
        let (Some(new), prefix) = (template.spec.as_ref().and_then(storage), format!("{}-", template.name_any()))
        else {
            continue;
        };
        for claim in found.iter().filter(|claim| claim.name_any().starts_with(&prefix)) {
            let Some(old) = claim.spec.as_ref().and_then(storage).filter(|old| new.exceeds(old)) else { continue };
            let name = claim.name_any();
            let patch = json!({"spec": {"resources": {"requests": {"storage": new.to_string()}}}});
            let params = PatchParams { dry_run, ..PatchParams::default() };
            let grown = ask(api.patch(&name, &params, &Patch::Merge(&patch))).await;
            grown.map_err(|error| not_grown(connection, claim, error))?;
            changes.push(Change {
                object: format!("persistentvolumeclaim {name}"),
                diff: format!("-storage: {old}\n+storage: {new}\n"),
            });
        }
    }
    Ok(changes)
}

/// An account without the right to it is answered in the same way as one whose storage class cannot do it.
fn not_grown(connection: &Connection, claim: &PersistentVolumeClaim, error: RequestError) -> ApplyError {
    let name = claim.name_any();
    if !error.to_string().contains("must support resize") {
        return Asked { verb: "patch", resource: RESOURCE, name: &name }.apply_error(connection, error);
    }
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default();
    let class = if class.is_empty() { "none".to_owned() } else { format!("`{class}`") };
    let obstacle = Obstacle {
        what: format!("the volumes of this node cannot grow: their storage class, {class}, does not expand volumes"),
        hint: "set allowVolumeExpansion of a storage class that can, or remove the node with its volumes and create it again".to_owned(),
    };
    ApplyError::Refused { verb: "expand", object: format!("persistentvolumeclaim {name}"), source: obstacle.into() }
}

/// A StatefulSet's templates can never change: it goes, and its pods stay until the next one takes them over.
async fn replace(connection: &Connection, target: &Target, before: &StatefulSet) -> Result<(), ApplyError> {
    let name = target.workload_name();
    let kind = WorkloadKind::StatefulSet;
    let asked = |verb| Asked { verb, resource: kind.resource(), name: &name };
    let same = Preconditions { uid: before.metadata.uid.clone(), ..Preconditions::default() };
    let params = DeleteParams::orphan().preconditions(same);
    live::delete(connection, kind, &name, &params)
        .await
        .map_err(|error| asked("delete").apply_error(connection, error))?;
    let begun = Instant::now();
    loop {
        let found = live::find_one(connection, kind, &name).await;
        let found = found.map_err(|error| asked("list").apply_error(connection, error))?;
        if found.is_none_or(|found| found.metadata().uid != before.metadata.uid) {
            return Ok(());
        }
        if begun.elapsed() > REPLACED {
            return Err(ApplyError::Refused {
                verb: "replace",
                object: format!("statefulset {name}"),
                source: format!("it is still there after {} s", REPLACED.as_secs()).into(),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_of_a_workload_are_told_by_their_names() {
        for (claim, workload, is_its) in [
            ("state-kube0-0", "kube0", true),
            ("state-kube0-12", "kube0", true),
            ("state-kube0-x", "kube0", false),
            ("state-mykube0-0", "kube0", false),
            ("kube0-0", "kube0", false),
            ("state-my-kube0-0", "kube0", true),
        ] {
            assert_eq!(is_of(claim, workload), is_its, "{claim}");
        }
    }

    fn claim(storage: &str, class: Option<&str>, mode: &str) -> PersistentVolumeClaimSpec {
        let spec =
            json!({"accessModes": [mode], "storageClassName": class, "resources": {"requests": {"storage": storage}}});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn volumes_grow_and_nothing_else_about_them_changes() {
        let old = claim("10Gi", Some("fast"), "ReadWriteOnce");
        for (new, wanted) in [
            (claim("10240Mi", Some("fast"), "ReadWriteOnce"), None),
            (claim("20Gi", Some("fast"), "ReadWriteOnce"), None),
            (claim("5Gi", Some("fast"), "ReadWriteOnce"), Some("they have 10Gi and cannot shrink to 5Gi")),
            (claim("10Gi", None, "ReadWriteOnce"), Some("their storage class is `fast`, not the cluster's default")),
            (
                claim("10Gi", Some("fast"), "ReadWriteMany"),
                Some("their access mode is ReadWriteOnce, not ReadWriteMany"),
            ),
        ] {
            assert_eq!(fixed(&old, &new).as_deref(), wanted);
        }
    }
}
