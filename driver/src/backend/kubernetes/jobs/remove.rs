//! Takes a Job away with all that it has.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};

use super::{JobError, JobState, JobView, Jobs, made};
use crate::backend::kubernetes::client::Connection;
use crate::backend::kubernetes::errors::{Asked, ask};
use crate::backend::kubernetes::live;
use crate::backend::kubernetes::story::JOB_NAME_LABEL;

/// What a build is given to end in once it is canceled: the shell that runs it does not hear the order, and would use up
/// Kubernetes' 30 s.
const GRACE_SECONDS: u32 = 1;

/// In which state a Job is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RemoveWhen {
    #[default]
    Always,
    Running,
    Over,
}

impl Jobs {
    /// Removes a Job; its Secrets and its pods go with it.
    ///
    /// # Errors
    /// When there is none, when it is not in that state, or when the cluster refuses.
    pub async fn remove(&self, name: &str, when: RemoveWhen) -> Result<JobView, JobError> {
        let connection = self.connection().await?;
        let job = self.find(&connection, name).await?;
        let pods = pods(&connection, name).await?;
        let mut view = made::view(&job, &pods);
        match when {
            RemoveWhen::Running if view.state.is_over() => return Err(JobError::IsOver(name.to_owned())),
            RemoveWhen::Over if !view.state.is_over() => return Err(JobError::StillRuns(name.to_owned())),
            RemoveWhen::Always | RemoveWhen::Running | RemoveWhen::Over => {}
        }
        remove(&connection, name, &pods).await?;
        if !view.state.is_over() {
            view.state = JobState::Canceled;
        }
        Ok(view)
    }
}

/// Removes a Job of which nobody needs to hear any more.
pub(super) async fn give_up(connection: &Connection, name: &str) -> Result<(), JobError> {
    let pods = pods(connection, name).await.unwrap_or_default();
    remove(connection, name, &pods).await
}

async fn pods(connection: &Connection, name: &str) -> Result<Vec<Pod>, JobError> {
    let params = ListParams::default().labels(&format!("{JOB_NAME_LABEL}={name}"));
    let asked = Asked { verb: "list", resource: "pods", name };
    let found = ask(live::api::<Pod>(connection).list(&params)).await;
    Ok(found.map_err(|error| asked.apply_error(connection, error))?.items)
}

async fn remove(connection: &Connection, name: &str, pods: &[Pod]) -> Result<(), JobError> {
    let asked = Asked { verb: "delete", resource: "jobs", name };
    let deleted = live::delete_one::<Job>(connection, name, &DeleteParams::background()).await;
    deleted.map_err(|error| asked.apply_error(connection, error))?;
    for pod in pods {
        // They go with the Job in any case: this is only about when.
        let params = DeleteParams { grace_period_seconds: Some(GRACE_SECONDS), ..DeleteParams::default() };
        if let Err(error) = live::delete_one::<Pod>(connection, &pod.name_any(), &params).await {
            tracing::debug!(job = name, error = crate::report::chain(&error), "a pod of a canceled job takes its time");
        }
    }
    Ok(())
}
