//! What keeps a pod from its start, and whether waiting can help: pure.

use k8s_openapi::api::core::v1::{Event, Pod};

use crate::backend::kubernetes::story;

/// Why nothing builds yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    /// In the cluster's word: `ImagePullBackOff`, `Unschedulable`, `FailedCreate`.
    pub(super) reason: String,
    /// What the cluster says of it, as a whole.
    pub(super) message: String,
    /// Time alone changes nothing about it.
    pub(super) forever: bool,
}

/// What registries say of an image that is not there or not for us. Anything else may be a moment's trouble.
const REFUSALS: [&str; 7] = [
    "not found",
    "manifest unknown",
    "pull access denied",
    "does not exist",
    "no match for platform",
    "authorization failed",
    "unauthorized",
];

/// What keeps a pod that is there.
pub(super) fn pod(pod: &Pod) -> Option<Stuck> {
    let statuses = story::init_containers(pod).chain(story::buildkitd(pod));
    let mut waiting = statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref());
    let waits = waiting.find_map(|waiting| {
        let (reason, message) = (waiting.reason.clone()?, waiting.message.clone().unwrap_or_default());
        let forever = match reason.as_str() {
            "InvalidImageName" | "ErrImageNeverPull" => true,
            "ErrImagePull" | "ImagePullBackOff" => {
                let message = message.to_lowercase();
                REFUSALS.iter().any(|refusal| message.contains(refusal))
            }
            "ContainerCreating" | "PodInitializing" => return None,
            _ => false,
        };
        Some(Stuck { reason, message, forever })
    });
    waits.or_else(|| {
        let condition = story::condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
        let reason = condition.reason.clone().unwrap_or_default();
        Some(Stuck { reason, message: condition.message.clone().unwrap_or_default(), forever: false })
    })
}

/// What keeps the Job from having a pod: an event of its own.
pub(super) fn creation(event: &Event) -> Option<Stuck> {
    let reason = event.reason.clone().filter(|reason| reason == "FailedCreate")?;
    let message = event.message.clone().unwrap_or_default();
    // A quota may have room again; what admission forbids, it forbids the next time, too.
    let forever = message.contains("is forbidden") && !message.contains("exceeded quota");
    Some(Stuck { reason, message, forever })
}
