//! What happened to a pod, in words for the user: a pure function of what the API server said about it.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod, PodCondition};

use super::BUILDKITD;
use crate::backend::{PodPhase, StoryLine};
use crate::manifest::CLIENT_CONTAINER;

mod condense;
mod end;
#[cfg(test)]
mod tests;
mod workload;

use end::{crash_text, failed_end, pod_message};
pub(super) use end::{disruption, end_of_vanished, last_end, last_end_of, status_reason};
pub(super) use workload::node_notes;

/// What Kubernetes itself puts on the pods of a Job: its name.
pub(super) const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// A container that ended and whose last output explains it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Crash {
    pub(super) container: String,
    pub(super) restarts: i32,
    /// Whether it was started again since, so that its output is the previous one.
    pub(super) previous: bool,
}

/// All that is known of one pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) pod: &'a Pod,
    /// In the order of their time.
    pub(super) events: &'a [&'a Event],
    /// The last output of the container that [`crash`] names.
    pub(super) crash_log: Option<&'a str>,
}

/// The lines, oldest first.
pub(super) fn story(seen: Seen<'_>) -> Vec<StoryLine> {
    let mut lines = Vec::new();
    scheduling(seen, &mut lines);
    let running = phase(seen.pod) == PodPhase::Running;
    if !running {
        preparation(seen, &mut lines);
    }
    for status in init_containers(seen.pod) {
        init_container(seen, status, &mut lines);
    }
    if let Some(status) = buildkitd(seen.pod) {
        main_container(seen, status, &mut lines);
    } else {
        image_events(seen, None, &mut lines);
    }
    ending(seen, &mut lines);
    lines
}

fn scheduling(seen: Seen<'_>, lines: &mut Vec<StoryLine>) {
    if let Some(host) = host(seen.pod) {
        lines.push(StoryLine::plain(format!("scheduled on {host}")));
        return;
    }
    let scheduled = condition(seen.pod, "PodScheduled").filter(|condition| condition.status == "False");
    if let Some(condition) = scheduled {
        let message = condense::scheduler(condition.message.as_deref().unwrap_or_default());
        lines.push(match condition.reason.as_deref() {
            Some("SchedulingGated") => StoryLine::plain(with("held back by a scheduling gate", &message)),
            _ => StoryLine::trouble(with("cannot be scheduled", &message)),
        });
    }
    for event in seen.events {
        let message = event.message.as_deref().unwrap_or_default();
        match event.reason.as_deref() {
            Some("TriggeredScaleUp" | "Nominated") => {
                push_new(lines, StoryLine::plain(with("a machine is being added", message)));
            }
            Some("NotTriggerScaleUp") => {
                push_new(lines, StoryLine::trouble(with("no machine is being added", message)));
            }
            _ => {}
        }
    }
}

/// Volumes and the sandbox: only events tell of them.
fn preparation(seen: Seen<'_>, lines: &mut Vec<StoryLine>) {
    for event in seen.events {
        let message = condense::runtime(event.message.as_deref().unwrap_or_default());
        match event.reason.as_deref() {
            // A kubelet that sees the pod before the Secret says so and tries again a second later.
            Some("FailedMount") if message.contains("failed to sync secret cache") => {}
            Some("FailedMount" | "FailedAttachVolume" | "FailedMapVolume") => {
                push_new(lines, StoryLine::trouble(with("cannot mount a volume", &message)));
            }
            Some("FailedCreatePodSandBox" | "NetworkNotReady") => {
                push_new(lines, StoryLine::trouble(with("cannot prepare the pod", &message)));
            }
            _ => {}
        }
    }
}

/// What the events tell of images: only those of `image`, or of any.
fn image_events(seen: Seen<'_>, image: Option<&str>, lines: &mut Vec<StoryLine>) {
    for event in seen.events {
        let message = event.message.as_deref().unwrap_or_default();
        let Some(named) = condense::quoted(message).filter(|named| image.is_none_or(|image| image == *named)) else {
            continue;
        };
        match event.reason.as_deref() {
            Some("Pulling") => push_new(lines, StoryLine::plain(format!("pulling image {named}"))),
            Some("Pulled") => {
                if let Some(took) = condense::pulled_in(message) {
                    push_new(lines, StoryLine::plain(format!("pulled image {named} in {took}")));
                }
            }
            _ => {}
        }
    }
}

fn init_container(seen: Seen<'_>, status: &ContainerStatus, lines: &mut Vec<StoryLine>) {
    let name = &status.name;
    image_events(seen, Some(image(seen.pod, status)), lines);
    let Some(state) = &status.state else { return };
    if waiting(seen, status, state, lines) {
        return;
    }
    if let Some(ended) = failed_end(status) {
        lines.push(StoryLine::trouble(crash_text(&format!("init container {name}"), ended, status)));
        log_lines(seen, name, lines);
    } else if state.running.is_some() {
        lines.push(StoryLine::plain(format!("init container {name} runs")));
    } else if state.terminated.is_some() {
        lines.push(StoryLine::plain(format!("init container {name} is done")));
    }
}

fn main_container(seen: Seen<'_>, status: &ContainerStatus, lines: &mut Vec<StoryLine>) {
    image_events(seen, Some(image(seen.pod, status)), lines);
    let Some(state) = &status.state else { return };
    if waiting(seen, status, state, lines) {
        return;
    }
    let going = seen.pod.metadata.deletion_timestamp.is_some();
    // The end of a build is told by whoever waits for it.
    if let Some(ended) = failed_end(status).filter(|_| !going && !is_build(seen.pod)) {
        lines.push(StoryLine::trouble(crash_text(&status.name, ended, status)));
        log_lines(seen, &status.name, lines);
    }
    if state.running.is_some() {
        let again = if status.restart_count > 0 { " again" } else { "" };
        lines.push(StoryLine::plain(format!("started {}{again}", status.name)));
    }
}

/// Why a container waits, when that is trouble other than a crash.
fn waiting(seen: Seen<'_>, status: &ContainerStatus, state: &ContainerState, lines: &mut Vec<StoryLine>) -> bool {
    let Some(waiting) = &state.waiting else { return false };
    let message = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "SignatureValidationFailed" => {
            let image = image(seen.pod, status);
            let told = condense::pull(message, image);
            // Older kubelets give the cause in the events alone while they back off.
            let told = if told.is_empty() { pull_failure(seen.events, image) } else { told };
            lines.push(StoryLine::trouble(with(&format!("cannot pull image {image}"), &told)));
            true
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreStartHookError"
        | "PostStartHookError" => {
            let what = format!("cannot start container {}", status.name);
            lines.push(StoryLine::trouble(with(&what, &condense::runtime(message))));
            true
        }
        _ => false,
    }
}

fn pull_failure(events: &[&Event], image: &str) -> String {
    let failed = events.iter().rev().filter(|event| event.reason.as_deref() == Some("Failed"));
    failed
        .map(|event| condense::pull(event.message.as_deref().unwrap_or_default(), image))
        .find(|told| !told.is_empty())
        .unwrap_or_default()
}

fn ending(seen: Seen<'_>, lines: &mut Vec<StoryLine>) {
    let pod = seen.pod;
    if is_cut_off(pod) {
        let host = host(pod).unwrap_or("its machine");
        lines.push(StoryLine::trouble(format!("{host} does not answer the API server any more")));
    }
    if let Some(disruption) = disruption(pod) {
        lines.push(StoryLine::trouble(disruption.to_string()));
    } else if let Some(reason) = status_reason(pod) {
        lines.push(StoryLine::trouble(with(reason, pod_message(pod))));
    } else if pod.metadata.deletion_timestamp.is_some() {
        lines.push(StoryLine::plain("is being deleted"));
    }
}

/// What is kept of a failed container's output.
pub(super) fn crash_output(text: &str) -> String {
    condense::crash_output(text)
}

fn log_lines(seen: Seen<'_>, container: &str, lines: &mut Vec<StoryLine>) {
    if crash(seen.pod).is_none_or(|crash| crash.container != container) {
        return;
    }
    for line in seen.crash_log.unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
        lines.push(StoryLine::trouble(format!("{container}: {}", condense::log_line(line))));
    }
}

/// How far the pod is.
pub(super) fn phase(pod: &Pod) -> PodPhase {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodPhase::Terminating;
    }
    let told = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(told, Some("Failed" | "Succeeded")) {
        return PodPhase::Failed;
    }
    let Some(status) = buildkitd(pod) else { return PodPhase::Pending };
    let state = status.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        PodPhase::Running
    } else if state.is_some_and(|state| state.terminated.is_some()) || last_end_of(status).is_some() {
        PodPhase::Failed
    } else {
        PodPhase::Pending
    }
}

/// Another value is another `buildkitd`.
pub(super) fn incarnation(pod: &Pod) -> u64 {
    buildkitd(pod).and_then(|status| u64::try_from(status.restart_count).ok()).unwrap_or_default()
}

pub(super) fn host(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

pub(super) fn started(pod: &Pod) -> Option<SystemTime> {
    let running = buildkitd(pod).and_then(|status| status.state.as_ref()?.running.as_ref()?.started_at.clone());
    running.or_else(|| pod.status.as_ref()?.start_time.clone()).map(|time| SystemTime::from(time.0))
}

/// The container whose last output is worth reading, if one failed.
pub(super) fn crash(pod: &Pod) -> Option<Crash> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    // The output of a build is shown as it comes.
    let all = init_containers(pod).chain(buildkitd(pod).filter(|_| !is_build(pod)));
    let failed = all.filter(|status| failed_end(status).is_some()).last()?;
    let previous = failed.state.as_ref().is_none_or(|state| state.terminated.is_none());
    Some(Crash { container: failed.name.clone(), restarts: failed.restart_count, previous })
}

/// The machine is lost: its controller took the pod's readiness away, which the kubelet itself would have done by
/// taking that of the containers.
fn is_cut_off(pod: &Pod) -> bool {
    let is = |kind, value| condition(pod, kind).is_some_and(|condition: &PodCondition| condition.status == value);
    is("Ready", "False") && is("ContainersReady", "True")
}

pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// The container that matters: in the pod of a Job it may be the client of a `buildkitd` elsewhere.
pub(super) fn buildkitd(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == BUILDKITD || (is_build(pod) && status.name == CLIENT_CONTAINER))
}

fn is_build(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(JOB_NAME_LABEL))
}

pub(super) fn init_containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| &status.init_container_statuses).flatten()
}

/// The image as the manifest writes it: the status may hold another spelling of it.
fn image<'a>(pod: &'a Pod, status: &'a ContainerStatus) -> &'a str {
    let spec = pod.spec.as_ref();
    let all = spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let wanted = all.into_iter().find(|container| container.name == status.name);
    wanted.and_then(|container| container.image.as_deref()).unwrap_or(&status.image)
}

fn with(what: &str, message: &str) -> String {
    let message = message.trim();
    if message.is_empty() { what.to_owned() } else { format!("{what}: {message}") }
}

/// Events repeat themselves.
fn push_new(lines: &mut Vec<StoryLine>, line: StoryLine) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}
