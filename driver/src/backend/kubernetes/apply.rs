//! The node's objects as they should be, by server-side apply: Secrets first, because the pods mount them.

use std::fmt::Debug;
use std::time::SystemTime;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Connection;
use super::errors::{Asked, ask};
use super::{Target, certs};
use crate::backend::ApplyError;
use crate::manifest::{self, CertificateSet, Objects, Workload};

/// Whose fields these are.
const FIELD_MANAGER: &str = "buildfleet";

/// On the pods: which certificates they started with. `buildkitd` reads its certificate once, so pods have to be
/// replaced when the Secret was.
const CERTIFICATES_ANNOTATION: &str = "buildfleet.internal/certificates-not-after";

/// How often a Secret that somebody else writes at the same time is looked at again.
const ATTEMPTS: usize = 3;

/// What the cluster now has.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) workload: Workload,
    pub(super) certificates: Option<CertificateSet>,
}

pub(super) async fn apply(connection: &Connection, target: &Target, replicas: u32) -> Result<Applied, ApplyError> {
    let certificates = match target.options.transport.needs_tls() {
        true => Some(certificates(connection, target).await?),
        false => None,
    };
    let Objects { config, mut workload, budget } =
        manifest::objects(&target.node, &target.options, &connection.namespace, replicas);
    if let (Some(certificates), Some(template)) = (&certificates, workload.template_mut()) {
        let annotations = &mut template.metadata.get_or_insert_default().annotations;
        let annotations = annotations.get_or_insert_default();
        annotations.insert(CERTIFICATES_ANNOTATION.to_owned(), certificates.not_after.clone());
    }
    if let Some(config) = &config {
        apply_one(connection, "secrets", &target.config_name(), config).await?;
    }
    let (resource, name) = (workload.kind().resource(), target.workload_name());
    let workload = match workload {
        Workload::Deployment(wanted) => Workload::Deployment(apply_one(connection, resource, &name, &wanted).await?),
        Workload::StatefulSet(wanted) => Workload::StatefulSet(apply_one(connection, resource, &name, &wanted).await?),
    };
    if let Some(budget) = &budget {
        apply_one(connection, "poddisruptionbudgets", &name, budget).await?;
    }
    Ok(Applied { workload, certificates })
}

/// Makes one object as `wanted`, by server-side apply, and returns what the API server has now.
async fn apply_one<K>(connection: &Connection, resource: &'static str, name: &str, wanted: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    ask(api.patch(name, &params, &Patch::Apply(wanted)))
        .await
        .map_err(|error| Asked { verb: "patch", resource, name }.apply_error(connection, error))
}

/// The certificates in the cluster, made or renewed if need be.
async fn certificates(connection: &Connection, target: &Target) -> Result<CertificateSet, ApplyError> {
    let name = target.secret_name();
    let api: Api<Secret> = Api::namespaced(connection.client.clone(), &connection.namespace);
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
                let params = PatchParams::apply(FIELD_MANAGER).force();
                ("patch", ask(api.patch(&name, &params, &Patch::Apply(&secret))).await)
            }
        };
        match written {
            Ok(_) => return Ok(made),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(asked(verb).apply_error(connection, error)),
        }
    }
}
