//! What keeps a Deployment from having the pods it wants: quota and admission refuse them before any pod is there.

use k8s_openapi::api::apps::v1::Deployment;

use crate::backend::StoryLine;

/// What happened to the node as a whole.
pub(in super::super) fn node_notes(deployment: &Deployment) -> Vec<StoryLine> {
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
