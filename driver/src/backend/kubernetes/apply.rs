//! The node's objects as an order has them, by server-side apply: Secrets first, because the pods mount them.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::client::Connection;
use super::errors::{Asked, RequestError, ask};
use super::marks::{Marks, Order};
use super::wanted::Wanted;
use super::{Target, certs, live, volumes};
use crate::backend::{ApplyError, Obstacle};
use crate::manifest::{self, CertificateSet, Workload};

/// Whose fields these are.
pub(super) const FIELD_MANAGER: &str = "buildfleet";

/// How often a Secret that somebody else writes at the same time is looked at again.
const ATTEMPTS: usize = 3;

/// What the cluster now has.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// `None` when there was nothing to stop, or when its options are not ours.
    pub(super) workload: Option<Workload>,
    pub(super) certificates: Option<CertificateSet>,
}

/// How our objects are applied: what somebody else has changed in them is ours again.
pub(super) fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

pub(super) async fn apply(connection: &Connection, target: &Target, replicas: u32) -> Result<Applied, ApplyError> {
    let (kind, name) = (manifest::workload_kind(&target.options), target.workload_name());
    let list = Asked { verb: "list", resource: kind.resource(), name: &name };
    let before = live::find(connection, kind, &name).await.map_err(|error| list.apply_error(connection, error))?;
    let marks = before.as_ref().map(|found| Marks::of(found.metadata())).unwrap_or_default();
    let wanted = Wanted::of(target, &connection.namespace, replicas);
    match &before {
        None if replicas == 0 => return Ok(Applied::default()),
        None => {}
        Some(found) => match marks.order(&wanted.fingerprint, &target.us) {
            Order::Apply => {}
            Order::Scale => return scale(connection, found, &marks, replicas).await,
            order @ (Order::Refuse | Order::Foreign) => {
                return Err(obstructed(&name, in_the_way(target, found, &marks, order)));
            }
        },
    }
    let certificates = match target.options.transport.needs_tls() {
        true => Some(certificates(connection, target).await?),
        false => None,
    };
    let end = certificates.as_ref().map(|set| set.not_after.as_str());
    let wanted = wanted.with_certificates(end);
    let objects = &wanted.objects;
    let refused = |resource| {
        let asked = Asked { verb: "patch", resource, name: &name };
        move |error: RequestError| asked.apply_error(connection, error)
    };
    if let Some(config) = &objects.config {
        let name = target.config_name();
        let asked = Asked { verb: "patch", resource: "secrets", name: &name };
        let applied = live::applied(connection, &name, config, &params()).await;
        applied.map_err(|error| asked.apply_error(connection, error))?;
    }
    if let Some(before) = &before {
        volumes::make_way(connection, target, before, &objects.workload).await?;
    }
    let applied = live::apply(connection, &name, &objects.workload, &params()).await;
    let mut workload = applied.map_err(refused(kind.resource()))?;
    if let Some(budget) = &objects.budget {
        let applied = live::applied(connection, &name, budget, &params()).await;
        applied.map_err(refused("poddisruptionbudgets"))?;
    }
    if let Some(other) = before.as_ref().filter(|before| before.kind() != kind)
        && let Some(notes) = Marks::carried(other.metadata())
    {
        let merged = live::merge(connection, kind, &name, &notes).await;
        workload = merged.map_err(refused(kind.resource()))?;
    }
    if let Some(before) = before.as_ref().filter(|_| marks.applied.as_deref() != Some(&wanted.fingerprint)) {
        // An order that was interrupted while it changed the kind has left both.
        let other_kind = before.kind() != kind || marks.applied.is_none();
        sweep(connection, target, &wanted, other_kind).await?;
    }
    // Last of all: who is interrupted before sweeps again.
    let marks = Marks::of(workload.metadata());
    let pods = target.options.replicas;
    if let Some(notes) = marks.applying(&target.us, &wanted.fingerprint, pods, Timestamp::now()) {
        let merged = live::merge(connection, kind, &name, &notes).await;
        workload = merged.map_err(refused(kind.resource()))?;
    }
    Ok(Applied { workload: Some(workload), certificates })
}

/// Starts or stops pods that have somebody else's options.
async fn scale(connection: &Connection, found: &Workload, marks: &Marks, replicas: u32) -> Result<Applied, ApplyError> {
    let wanted = if replicas == 0 { 0 } else { marks.replicas.unwrap_or(replicas) };
    if found.replicas() != Some(wanted) {
        let name = found.metadata().name.clone().unwrap_or_default();
        let scaled = live::merge(connection, found.kind(), &name, &json!({"spec": {"replicas": wanted}})).await;
        let asked = Asked { verb: "patch", resource: found.kind().resource(), name: &name };
        scaled.map_err(|error| asked.apply_error(connection, error))?;
    }
    Ok(Applied::default())
}

/// Takes away what other options have left. What the account has no right to it cannot have made.
async fn sweep(connection: &Connection, target: &Target, wanted: &Wanted, other_kind: bool) -> Result<(), ApplyError> {
    let (kind, name) = (wanted.objects.workload.kind(), target.workload_name());
    let background = DeleteParams::background();
    let mut left = Vec::new();
    if other_kind {
        let other = live::other(kind);
        left.push((other.resource(), name.clone(), live::delete(connection, other, &name, &background).await));
    }
    if wanted.objects.budget.is_none() {
        let deleted = live::delete_one::<PodDisruptionBudget>(connection, &name, &background).await;
        left.push(("poddisruptionbudgets", name.clone(), deleted));
    }
    for (secret, needed) in [
        (target.config_name(), wanted.objects.config.is_some()),
        (target.secret_name(), target.options.transport.needs_tls()),
    ] {
        if !needed {
            let deleted = live::delete_one::<Secret>(connection, &secret, &background).await;
            left.push(("secrets", secret, deleted));
        }
    }
    for (resource, name, deleted) in left {
        match deleted {
            Err(error) if !error.is_forbidden() => {
                return Err(Asked { verb: "delete", resource, name: &name }.apply_error(connection, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Why objects that are there are not changed.
pub(super) fn in_the_way(target: &Target, found: &Workload, marks: &Marks, order: Order) -> Obstacle {
    let (object, node) = (found.called(), &target.node.name);
    if order == Order::Foreign {
        return Obstacle {
            what: format!("{object} is there and was not made by buildfleet"),
            hint: format!(
                "choose another name by --node, use its pods by --attach {}, or take it over by \
                           `create --node {node} --force`",
                object.replace(' ', "/")
            ),
        };
    }
    let sharing = marks.sharing(&target.us).unwrap_or_default();
    Obstacle {
        what: format!(
            "{object} has other options, and is used by {}; {} made it",
            sharing.others.join(", "),
            made_by(&sharing.owner)
        ),
        hint: format!(
            "give the same options, choose another name by --node, or give everybody yours by \
                       `create --node {node} --force`"
        ),
    }
}

fn made_by(owner: &str) -> &str {
    if owner.is_empty() { "somebody" } else { owner }
}

pub(super) fn obstructed(name: &str, obstacle: Obstacle) -> ApplyError {
    ApplyError::Refused { verb: "change", object: format!("node {name}"), source: obstacle.into() }
}

/// The certificates in the cluster, made or renewed if need be.
async fn certificates(connection: &Connection, target: &Target) -> Result<CertificateSet, ApplyError> {
    let name = target.secret_name();
    let api = live::api::<Secret>(connection);
    let asked = |verb| Asked { verb, resource: "secrets", name: &name };
    let mut attempt = 1;
    loop {
        let found = ask(api.get_opt(&name)).await.map_err(|error| asked("get").apply_error(connection, error))?;
        let now = SystemTime::now();
        let held = found.as_ref().and_then(certs::from_secret).filter(|held| !certs::is_due(&held.not_after, now));
        if let Some(held) = held {
            return Ok(held);
        }
        let made = certs::generate(target.node.name.as_str(), now).map_err(|error| ApplyError::Refused {
            verb: "make",
            object: "the node's certificates".to_owned(),
            source: error.into(),
        })?;
        let mut secret = manifest::tls_secret(&target.node, &connection.namespace, &made);
        // Two daemons may get here at once: only one of them may win, or pods and daemons hold different certificates.
        let (verb, written) = match found {
            None => {
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                ("create", ask(api.create(&params, &secret)).await)
            }
            Some(found) => {
                secret.metadata.resource_version = found.metadata.resource_version;
                ("patch", ask(api.patch(&name, &params(), &Patch::Apply(&secret))).await)
            }
        };
        match written {
            Ok(_) => return Ok(made),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(asked(verb).apply_error(connection, error)),
        }
    }
}
