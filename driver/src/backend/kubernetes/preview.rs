//! What an order would do to what is in the cluster: the API server tries it without keeping it, and the two are compared.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::{PatchParams, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::Connection;
use super::compare::{change, shown, with_replicas};
use super::errors::{Asked, RequestError, ask};
use super::marks::{Marks, Order};
use super::wanted::{Wanted, certificates_of};
use super::{Target, apply, live, volumes};
use crate::backend::{ApplyError, Obstacle, Preview, Standing};
use crate::builder::AttachTarget;
use crate::manifest::{self, Workload, WorkloadKind};

pub(super) async fn preview(connection: &Connection, target: &Target) -> Result<Preview, ApplyError> {
    let (kind, name) = (manifest::workload_kind(&target.options), target.workload_name());
    let list = Asked { verb: "list", resource: kind.resource(), name: &name };
    let before = live::find(connection, kind, &name).await.map_err(|error| list.apply_error(connection, error))?;
    let mut preview = Preview::default();
    if kind == WorkloadKind::StatefulSet {
        let asked = Asked { verb: "list", resource: "persistentvolumeclaims", name: &name };
        let found = volumes::claims(connection, target).await.map_err(|error| asked.apply_error(connection, error))?;
        preview.state = !found.is_empty();
    }
    let Some(mut before) = before else {
        return Ok(preview);
    };
    preview.exists = true;
    let marks = Marks::of(before.metadata());
    let wanted = Wanted::of(target, &connection.namespace, target.options.replicas)
        .with_certificates(certificates_of(&mut before).as_deref());
    let order = marks.order(&wanted.fingerprint, &target.us);
    preview.sharing = marks.sharing(&target.us);
    if order == Order::Foreign {
        preview.standing = Standing::Foreign;
        preview.obstacles.push(apply::in_the_way(target, &before, &marks, order));
        return Ok(preview);
    }
    changes(connection, target, &marks, &before, wanted, &mut preview).await?;
    let others = !marks.others(&target.us).is_empty();
    preview.standing = match order {
        _ if marks.knows(&target.us) || !others => Standing::Own,
        Order::Apply => Standing::Joins,
        _ if preview.changes.is_empty() => Standing::Joins,
        _ => Standing::Differs,
    };
    if preview.standing == Standing::Differs {
        preview.obstacles.insert(0, apply::in_the_way(target, &before, &marks, Order::Refuse));
    }
    Ok(preview)
}

/// Notes that this daemon uses what is there, and knows of the options that it has: its next order may change them.
pub(super) async fn join(connection: &Connection, target: &Target) -> Result<(), ApplyError> {
    let (kind, name) = (manifest::workload_kind(&target.options), target.workload_name());
    let asked = |verb| Asked { verb, resource: kind.resource(), name: &name };
    let found = live::find(connection, kind, &name).await;
    let Some(found) = found.map_err(|error| asked("list").apply_error(connection, error))? else {
        return Ok(());
    };
    let marks = Marks::of(found.metadata());
    let options = marks.applied.clone().unwrap_or_else(|| "unknown".to_owned());
    if let Some(notes) = marks.joining(&target.us, &options, Timestamp::now()) {
        let noted = live::merge(connection, found.kind(), &name, &notes).await;
        noted.map_err(|error| asked("patch").apply_error(connection, error))?;
    }
    Ok(())
}

/// The workload of the node's name, when buildfleet did not make it.
pub(super) async fn of_others(connection: &Connection, target: &Target) -> Result<Option<AttachTarget>, ApplyError> {
    let (kind, name) = (manifest::workload_kind(&target.options), target.workload_name());
    let asked = Asked { verb: "list", resource: kind.resource(), name: &name };
    let found = live::find(connection, kind, &name).await.map_err(|error| asked.apply_error(connection, error))?;
    let found = found.filter(|found| Marks::of(found.metadata()).order("", &target.us) == Order::Foreign);
    let named = found.map(|found| found.called().replace(' ', "/").parse::<AttachTarget>());
    named.transpose().map_err(|error| ApplyError::Refused { verb: "use", object: name, source: error.into() })
}

async fn changes(
    connection: &Connection,
    target: &Target,
    marks: &Marks,
    before: &Workload,
    mut wanted: Wanted,
    preview: &mut Preview,
) -> Result<(), ApplyError> {
    let name = target.workload_name();
    let dry_run = apply::params().dry_run();
    let (config, secret) = (wanted.objects.config.take(), target.config_name());
    let asked = Asked { verb: "get", resource: "secrets", name: &secret };
    let of_config = secondary(connection, &secret, config.as_ref(), &dry_run).await;
    let (old, new) = of_config.map_err(|error| asked.apply_error(connection, error))?;
    preview.changes.extend(change(format!("secret {secret}"), old, new));
    of_workload(connection, target, marks, before, &mut wanted, &dry_run, preview).await?;
    let budget = wanted.objects.budget.as_ref();
    let asked = Asked { verb: "get", resource: "poddisruptionbudgets", name: &name };
    let of_budget = secondary::<PodDisruptionBudget>(connection, &name, budget, &dry_run).await;
    let (old, new) = of_budget.map_err(|error| asked.apply_error(connection, error))?;
    preview.changes.extend(change(format!("poddisruptionbudget {name}"), old, new));
    Ok(())
}

async fn of_workload(
    connection: &Connection,
    target: &Target,
    marks: &Marks,
    before: &Workload,
    wanted: &mut Wanted,
    dry_run: &PatchParams,
    preview: &mut Preview,
) -> Result<(), ApplyError> {
    let name = target.workload_name();
    let kinds = (before.kind(), wanted.objects.workload.kind());
    if kinds != (WorkloadKind::Deployment, WorkloadKind::Deployment) {
        let asked = Asked { verb: "list", resource: "persistentvolumeclaims", name: &name };
        let found = volumes::claims(connection, target).await.map_err(|error| asked.apply_error(connection, error))?;
        if let Some(obstacle) = volumes::obstacle(target, before, &wanted.objects.workload, &found) {
            preview.obstacles.push(obstacle);
            return Ok(());
        }
        if let Workload::StatefulSet(set) = &wanted.objects.workload {
            match volumes::grow(connection, set, &found, true).await {
                Ok(grown) => preview.changes.extend(grown),
                Err(error) => preview.obstacles.push(obstacle(error)?),
            }
        }
        volumes::keep_templates(before, &mut wanted.objects.workload);
    }
    let old = with_replicas(value(before), marks.replicas.or(before.replicas()));
    if kinds.0 != kinds.1 {
        preview.changes.extend(change(before.called(), Some(old), None));
        let new = value(&wanted.objects.workload);
        preview.changes.extend(change(wanted.objects.workload.called(), None, Some(new)));
        return Ok(());
    }
    let asked = Asked { verb: "patch", resource: kinds.1.resource(), name: &name };
    match live::apply(connection, &name, &wanted.objects.workload, dry_run).await {
        Ok(after) => preview.changes.extend(change(after.called(), Some(old), Some(value(&after)))),
        Err(error) => preview.obstacles.push(obstacle(asked.apply_error(connection, error))?),
    }
    Ok(())
}

/// What the API server refuses is an obstacle; that it could not be asked is an error.
fn obstacle(error: ApplyError) -> Result<Obstacle, ApplyError> {
    match &error {
        ApplyError::Refused { .. } => {
            let hint = error.hint().unwrap_or_else(|| {
                "give other options, or remove the node and create it again: `create --leave`, then `create --append`".to_owned()
            });
            Ok(Obstacle { what: crate::report::chain(&error), hint })
        }
        _ => Err(error),
    }
}

/// An object beside the workload, before and after. Who has no right to see one has none to have made it.
async fn secondary<K>(
    connection: &Connection,
    name: &str,
    wanted: Option<&K>,
    dry_run: &PatchParams,
) -> Result<(Option<Value>, Option<Value>), RequestError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
{
    let old = match ask(live::api::<K>(connection).get_opt(name)).await {
        Err(error) if error.is_forbidden() && wanted.is_none() => None,
        old => old?,
    };
    let new = match wanted {
        Some(wanted) => Some(live::applied(connection, name, wanted, dry_run).await?),
        None => None,
    };
    Ok((old.as_ref().map(shown), new.as_ref().map(shown)))
}

pub(super) fn value(workload: &Workload) -> Value {
    match workload {
        Workload::Deployment(it) => shown(it),
        Workload::StatefulSet(it) => shown(it),
    }
}
