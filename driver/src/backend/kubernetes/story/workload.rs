//! What keeps a workload from having the pods it wants: quota and admission refuse them before any pod is there.

use crate::backend::StoryLine;
use crate::manifest::Workload;

/// What happened to the node as a whole.
///
/// A StatefulSet says it in events alone, which are not followed for workloads.
pub(in super::super) fn node_notes(workload: &Workload) -> Vec<StoryLine> {
    let Workload::Deployment(deployment) = workload else { return Vec::new() };
    let conditions = deployment.status.iter().flat_map(|status| &status.conditions).flatten();
    let mut notes = Vec::new();
    for condition in conditions {
        if condition.type_ == "ReplicaFailure" && condition.status == "True" {
            let message = condition.message.as_deref().unwrap_or("without a reason");
            notes.push(StoryLine::trouble(format!("pods cannot be created: {}", super::condense::runtime(message))));
        }
    }
    notes
}
