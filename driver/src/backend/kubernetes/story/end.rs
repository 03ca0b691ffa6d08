//! How a pod, and what ran in it, came to its end.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::{BUILDKITD, buildkitd, condition, phase, with};
use crate::backend::{PodEnd, PodPhase};

/// How the pod's last `buildkitd` ended, when one did.
pub(in super::super) fn last_end(pod: &Pod, crash_log: Option<&str>) -> Option<PodEnd> {
    let ended = buildkitd(pod).and_then(last_end_of);
    let is_over = matches!(phase(pod), PodPhase::Failed) || ended.is_some();
    is_over.then(|| end(pod, ended, crash_log))
}

/// How a pod that is gone came to its end, by what was last seen of it.
pub(in super::super) fn end_of_vanished(pod: &Pod, crash_log: Option<&str>) -> PodEnd {
    end(pod, buildkitd(pod).and_then(last_end_of), crash_log)
}

fn end(pod: &Pod, ended: Option<&ContainerStateTerminated>, crash_log: Option<&str>) -> PodEnd {
    let killed_for_memory = ended.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"));
    if !killed_for_memory {
        if let Some(disruption) = disruption(pod) {
            return PodEnd { reason: disruption.reason.to_owned(), detail: disruption.message.map(str::to_owned) };
        }
        if let Some(reason) = status_reason(pod) {
            let detail = Some(pod_message(pod).to_owned()).filter(|message| !message.is_empty());
            return PodEnd { reason: reason.to_owned(), detail };
        }
    }
    // A process that is asked to go ends with whatever exit code; that it was asked is the reason.
    let asked_to_go = pod.metadata.deletion_timestamp.is_some();
    match ended.filter(|_| killed_for_memory || !asked_to_go) {
        Some(ended) => {
            let log = crash_log.map(str::trim_end).filter(|log| !log.is_empty()).map(str::to_owned);
            let message = ended.message.clone().filter(|message| !message.is_empty());
            // The kernel killed it in the middle of something: its last words are not about that.
            PodEnd { reason: terminated_reason(ended), detail: message.or(log).filter(|_| !killed_for_memory) }
        }
        None => PodEnd { reason: "deleted".to_owned(), detail: None },
    }
}

pub(super) fn crash_text(what: &str, ended: &ContainerStateTerminated, status: &ContainerStatus) -> String {
    let times = match status.restart_count {
        ..=1 => String::new(),
        times => format!(" (restart {times})"),
    };
    format!("{what} ended: {}{times}", terminated_reason(ended))
}

/// `OOMKilled`, `exit code 1`, `signal 9`, `ContainerCannotRun`.
fn terminated_reason(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal.filter(|signal| *signal != 0)) {
        (Some("OOMKilled"), _) => "OOMKilled".to_owned(),
        (Some("Error" | "Completed") | None, Some(signal)) => format!("signal {signal}"),
        (Some("Error" | "Completed" | "") | None, None) => format!("exit code {}", ended.exit_code),
        (Some(reason), _) => format!("{reason} (exit code {})", ended.exit_code),
    }
}

/// The last end of a container that failed; a regular end is none.
pub(super) fn failed_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let is_main = status.name == BUILDKITD;
    // buildkitd has no regular end: with exit code 0 it is gone all the same.
    last_end_of(status).filter(|ended| is_main || ended.exit_code != 0)
}

pub(in super::super) fn last_end_of(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    now.or_else(|| status.last_state.as_ref().and_then(|state| state.terminated.as_ref()))
}

pub(in super::super) struct Disruption<'a> {
    pub(in super::super) reason: &'static str,
    pub(in super::super) message: Option<&'a str>,
}

impl std::fmt::Display for Disruption<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&with(self.reason, self.message.unwrap_or_default()))
    }
}

pub(in super::super) fn disruption(pod: &Pod) -> Option<Disruption<'_>> {
    let condition = condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True")?;
    let reason = match condition.reason.as_deref() {
        Some("PreemptionByScheduler") => "preempted",
        Some("DeletionByPodGC") => "node lost",
        _ => "Evicted",
    };
    Some(Disruption { reason, message: condition.message.as_deref().filter(|message| !message.is_empty()) })
}

pub(in super::super) fn status_reason(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.reason.as_deref().filter(|reason| !reason.is_empty())
}

pub(super) fn pod_message(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default()
}
