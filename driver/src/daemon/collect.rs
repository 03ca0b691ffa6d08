//! Removes builders that nobody uses from a cluster: the one command that needs no daemon, so that a CronJob may run it.

use std::path::PathBuf;

use super::backends::{AllBackends, Backends};
use crate::backend::ApplyError;
use crate::backend::kubernetes::Collect;
pub use crate::backend::kubernetes::{Fate, Found};
use crate::options::Ttl;
use crate::settings::Settings;

/// Where to look, and what to remove.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// In the order of `$KUBECONFIG`; none: the service account of this pod.
    pub paths: Vec<PathBuf>,
    /// Without it, the current one of those files.
    pub context: Option<String>,
    /// Without it, that of the context.
    pub namespace: Option<String>,
    pub all_namespaces: bool,
    /// For builders that have none of their own.
    pub ttl: Option<Ttl>,
    pub dry_run: bool,
    /// Also volumes whose builder is gone.
    pub volumes: bool,
}

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("{0}")]
    Kubeconfig(String),
    #[error(transparent)]
    Cluster(ApplyError),
    #[error("the search for the cluster was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl CollectError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::Kubeconfig(_) | Self::Interrupted(_) => None,
        }
    }
}

/// Looks at all that buildfleet has made in a namespace, or in all, and removes what nobody uses.
///
/// # Errors
/// When the cluster is not found or cannot be asked.
pub async fn collect(settings: &Settings, wanted: Wanted) -> Result<Vec<Found>, CollectError> {
    let Wanted { paths, context, namespace, all_namespaces, ttl, dry_run, volumes } = wanted;
    let backends = AllBackends::new(settings.clone());
    // Files are read in it.
    let located = tokio::task::spawn_blocking(move || backends.locate(paths, context)).await;
    let (context, of_context) = located.map_err(CollectError::Interrupted)?.map_err(CollectError::Kubeconfig)?;
    let namespace = namespace.or(of_context);
    let api_server = settings.kubernetes_service().map(str::to_owned);
    let collect = Collect { context, namespace, all_namespaces, ttl, dry_run, volumes, api_server };
    collect.run().await.map_err(CollectError::Cluster)
}
