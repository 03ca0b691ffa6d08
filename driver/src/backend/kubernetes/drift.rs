//! Whether a workload is still as this daemon's options have it, and who changed it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use super::client::Connection;
use super::compare::{told, with_replicas};
use super::errors::RequestError;
use super::marks::{Marks, Order};
use super::preview::value;
use super::wanted::{Wanted, certificates_of};
use super::{Target, apply, live, volumes};
use crate::manifest::Workload;

/// Those who write to every workload, and change nothing of its options.
const USUAL: [&str; 2] = ["kube-controller-manager", live::NOTES_MANAGER];

/// What a look at a workload found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// One line for the user, when it is not as our next order would make it.
    pub(super) drift: Option<String>,
    /// How many pods it has when it is started, where that is for others to say.
    pub(super) replicas: Option<u32>,
}

/// Compares `found` with what the next order would make of it. One request, which changes nothing.
pub(super) async fn look(connection: &Connection, target: &Target, mut found: Workload) -> Result<Look, RequestError> {
    let marks = Marks::of(found.metadata());
    let certificates = certificates_of(&mut found);
    let replicas = found.replicas().unwrap_or_default();
    let mut wanted = Wanted::of(target, &connection.namespace, replicas).with_certificates(certificates.as_deref());
    let order = marks.order(&wanted.fingerprint, &target.us);
    // What was not applied yet is no drift, and neither is an order of ours that is still to come.
    let is_current = marks.applied.as_deref() == Some(&wanted.fingerprint);
    if marks.applied.is_none()
        || wanted.objects.workload.kind() != found.kind()
        || (order == Order::Apply && !is_current)
    {
        return Ok(Look::default());
    }
    let replicas_of_others = marks.replicas.filter(|_| order == Order::Scale);
    let look = |drift| Ok(Look { drift, replicas: replicas_of_others });
    volumes::keep_templates(&found, &mut wanted.objects.workload);
    let name = target.workload_name();
    let ours = live::apply(connection, &name, &wanted.objects.workload, &apply::params().dry_run()).await?;
    // A stop is an order of somebody's buildfleet, or will be repaired by the next build.
    let expected = if replicas == 0 { Some(0) } else { marks.replicas.or(Some(replicas)) };
    let (ours, is) = (with_replicas(value(&ours), expected), value(&found));
    if ours == is {
        return look(None);
    }
    let (object, changes) = (found.called(), told(&ours, &is));
    if is_current {
        // Without an editor it was an order of another daemon, which is about to note its options.
        let who = editor(found.metadata());
        return look(who.map(|who| format!("{object} was changed by {who}: {changes}; the next bootstrap repairs it")));
    }
    let (others, node) = (marks.others(&target.us).join(", "), &target.node.name);
    let given = format!("{object} has other options, given by one of {others}: {changes}");
    look(Some(format!("{given}; `create --node {node}` gives it others")))
}

/// Who wrote to it last, in the name that their client gives; `None` when that was a daemon of ours.
fn editor(metadata: &ObjectMeta) -> Option<&str> {
    let writers = metadata.managed_fields.iter().flatten().filter(|entry| {
        let is_usual = entry.manager.as_deref().is_some_and(|name| USUAL.contains(&name));
        !is_usual && entry.subresource.as_deref() != Some("status")
    });
    let is_other = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() != Some(apply::FIELD_MANAGER);
    // Times are whole seconds: of two writers in one, it is the other.
    let last = writers.max_by_key(|entry| (entry.time.as_ref().map(|time| time.0), is_other(entry)))?;
    last.manager.as_deref().filter(|_| is_other(&last))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_one_who_wrote_is_named() {
        let metadata: ObjectMeta = serde_json::from_value(json!({"managedFields": [
            {"manager": "buildfleet", "operation": "Apply", "time": "2026-11-21T12:00:00Z"},
            {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-21T13:00:00Z"},
            {"manager": "kubectl-patch", "operation": "Update", "time": "2026-11-21T11:00:00Z"},
            {"manager": "autoscaler", "operation": "Update", "subresource": "status", "time": "2026-11-21T14:00:00Z"},
            {"manager": "kube-controller-manager", "operation": "Update", "time": "2026-11-21T15:00:00Z"},
            {"manager": "buildfleet-notes", "operation": "Update", "time": "2026-11-21T16:00:00Z"},
        ]}))
        .unwrap();
        assert_eq!(editor(&metadata), Some("kubectl-edit"));
        assert_eq!(editor(&ObjectMeta::default()), None);
        let metadata: ObjectMeta = serde_json::from_value(json!({"managedFields": [
            {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-21T12:00:00Z"},
            {"manager": "buildfleet", "operation": "Apply", "time": "2026-11-21T13:00:00Z"},
        ]}))
        .unwrap();
        assert_eq!(editor(&metadata), None);
    }
}
