//! The daemon's side of mTLS: read once from the node's Secret, and again when a pod does not fit it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Failure;
use crate::backend::BoxError;
use crate::backend::kubernetes::Target;
use crate::backend::kubernetes::certs;
use crate::backend::kubernetes::client::Connection;
use crate::backend::kubernetes::errors::ask;
use crate::manifest::CertificateSet;

/// How soon the Secret may be read again: a pod that is waited for is dialled ten times a second.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Identity {
    held: Mutex<Option<Held>>,
    /// The one before: pods that began with it and still have builds know no other.
    previous: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    certificates: CertificateSet,
    connector: TlsConnector,
    read: Instant,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("not_after", &self.certificates.not_after).finish_non_exhaustive()
    }
}

impl Identity {
    /// Takes over what was just applied. What cannot be used is read again by the next dial, which then says why.
    pub(super) fn remember(&self, certificates: &CertificateSet) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| held.certificates == *certificates) {
            return;
        }
        let now = certs::connector(certificates).ok().map(|connector| Held {
            certificates: certificates.clone(),
            connector,
            read: Instant::now(),
        });
        self.keep(std::mem::replace(&mut *held, now));
    }

    fn keep(&self, replaced: Option<Held>) {
        if replaced.is_some() {
            *self.previous.lock().unwrap_or_else(PoisonError::into_inner) = replaced;
        }
    }

    /// The connector of the certificates before those that are held.
    pub(super) fn previous(&self) -> Option<TlsConnector> {
        let previous = self.previous.lock().unwrap_or_else(PoisonError::into_inner);
        previous.as_ref().map(|held| held.connector.clone())
    }

    pub(super) async fn connector(&self, connection: &Connection, target: &Target) -> Result<TlsConnector, Failure> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match held {
            Some(held) => Ok(held.connector),
            None => self.read(connection, target).await.map(|held| held.connector),
        }
    }

    /// Another connector than the one that just failed, if the Secret has one.
    pub(super) async fn renewed(&self, connection: &Connection, target: &Target) -> Option<TlsConnector> {
        let before = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        if before.read.elapsed() < READ_AGAIN_AFTER {
            return None;
        }
        let now = self.read(connection, target).await.ok()?;
        (now.certificates != before.certificates).then_some(now.connector)
    }

    async fn read(&self, connection: &Connection, target: &Target) -> Result<Held, Failure> {
        let name = target.secret_name();
        let namespace = &connection.namespace;
        let api: Api<Secret> = Api::namespaced(connection.client.clone(), namespace);
        let what = |source: BoxError| -> BoxError {
            format!("failed to read secret {name} in namespace {namespace}: {}", crate::report::chain(&*source)).into()
        };
        let secret = ask(api.get(&name)).await.map_err(|error| Failure::Other(what(error.into())))?;
        let certificates = certs::from_secret(&secret)
            .ok_or_else(|| Failure::Other(what("it holds no certificates of buildfleet".into())))?;
        let connector = certs::connector(&certificates).map_err(|error| Failure::Other(what(error)))?;
        let held = Held { certificates, connector, read: Instant::now() };
        let mut present = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = present.as_ref().is_none_or(|present| present.certificates != held.certificates);
        let replaced = present.replace(held.clone());
        drop(present);
        self.keep(replaced.filter(|_| differs));
        Ok(held)
    }
}
