//! The node's objects as they should be, by server-side apply: the Secret first, because the pods mount it.

use std::time::SystemTime;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use super::client::Connection;
use super::errors::{Asked, ask};
use super::{Target, certs};
use crate::backend::ApplyError;
use crate::manifest::{self, CertificateSet};

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
    pub(super) deployment: Deployment,
    pub(super) certificates: Option<CertificateSet>,
}

pub(super) async fn apply(connection: &Connection, target: &Target, replicas: u32) -> Result<Applied, ApplyError> {
    let certificates = match target.options.transport.needs_tls() {
        true => Some(certificates(connection, target).await?),
        false => None,
    };
    let mut wanted = manifest::deployment(&target.node, &target.options, &connection.namespace, replicas);
    if let (Some(certificates), Some(spec)) = (&certificates, &mut wanted.spec) {
        let annotations = &mut spec.template.metadata.get_or_insert_default().annotations;
        let annotations = annotations.get_or_insert_default();
        annotations.insert(CERTIFICATES_ANNOTATION.to_owned(), certificates.not_after.clone());
    }
    let name = target.deployment_name();
    let api: Api<Deployment> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let asked = Asked { verb: "patch", resource: "deployments", name: &name };
    let deployment = ask(api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&wanted)))
        .await
        .map_err(|error| asked.apply_error(connection, error))?;
    Ok(Applied { deployment, certificates })
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
