//! What a Job and its pods say of a build: pure.

use std::time::SystemTime;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{JobEnd, JobState, JobView};
use crate::backend::kubernetes::story;
use crate::backend::{PodEnd, PodPhase};
use crate::manifest::{JOB_SELECTOR, TITLE_ANNOTATION};

/// Whether a Job was made by this program, or of its manifests.
pub(super) fn is_build(job: &Job) -> bool {
    let labels = job.labels();
    JOB_SELECTOR
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .all(|(label, value)| labels.get(label).is_some_and(|given| given == value))
}

/// The Job with what its pods add to it, which may be those of other Jobs, too.
pub(super) fn view(job: &Job, pods: &[Pod]) -> JobView {
    let mut own: Vec<&Pod> = pods.iter().filter(|pod| is_of(pod, job)).collect();
    own.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let pod = own.last().copied();
    let status = job.status.as_ref();
    let over = over(job);
    let finished = status.and_then(|status| status.completion_time.clone());
    let finished = finished.or_else(|| over.and_then(|condition| condition.last_transition_time.clone()));
    let state = state(job, pod);
    JobView {
        name: job.name_any(),
        namespace: job.namespace().unwrap_or_default(),
        state,
        created: time(job.metadata.creation_timestamp.clone()),
        started: time(status.and_then(|status| status.start_time.clone())),
        finished: time(finished.filter(|_| state.is_over())),
        pod: pod.map(ResourceExt::name_any),
        title: job.annotations().get(TITLE_ANNOTATION).cloned(),
        host: pod.and_then(story::host).map(str::to_owned),
        reason: (state == JobState::Failed).then(|| end(job, pod, None).reason).filter(|reason| !reason.is_empty()),
    }
}

fn is_of(pod: &Pod, job: &Job) -> bool {
    let owner = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
        Some(&owner.uid) == job.metadata.uid.as_ref()
    };
    pod.owner_references().iter().any(owner)
}

fn time(time: Option<Time>) -> Option<SystemTime> {
    time.map(|time| SystemTime::from(time.0))
}

/// What says that no other pod comes. The controller says so before the last pod has ended.
pub(super) fn over(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let kinds = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"];
    let holds = |kind: &str| conditions.iter().find(|it| it.type_ == kind && it.status == "True");
    kinds.into_iter().find_map(holds)
}

fn state(job: &Job, pod: Option<&Pod>) -> JobState {
    if let Some(condition) = over(job) {
        return match condition.type_.as_str() {
            "Complete" | "SuccessCriteriaMet" => JobState::Succeeded,
            _ => JobState::Failed,
        };
    }
    if job.metadata.deletion_timestamp.is_some() {
        return JobState::Canceled;
    }
    if job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)) {
        return JobState::Preparing;
    }
    match pod {
        Some(pod) if story::phase(pod) == PodPhase::Running => JobState::Running,
        Some(pod) if awaits_context(pod) => JobState::Preparing,
        _ => JobState::Waiting,
    }
}

/// Whether the init container runs that waits for the context.
pub(super) fn awaits_context(pod: &Pod) -> bool {
    story::init_containers(pod).any(|status| {
        let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
        status.name == crate::manifest::CONTEXT_CONTAINER && runs
    })
}

/// Whether any of its containers has begun, so that the pod is no longer in the cluster's hands alone.
pub(super) fn has_begun(pod: &Pod) -> bool {
    let statuses = story::init_containers(pod).chain(story::buildkitd(pod));
    statuses.filter_map(|status| status.state.as_ref()).any(|it| it.running.is_some() || it.terminated.is_some())
}

/// Whether the build has begun, so that it has an output.
pub(super) fn builds(pod: &Pod) -> bool {
    let state = story::buildkitd(pod).and_then(|status| status.state.as_ref());
    state.is_some_and(|it| it.running.is_some() || it.terminated.is_some())
}

/// Whether it is known how its build ended, or that it is being taken away.
pub(super) fn has_ended(pod: &Pod) -> bool {
    story::last_end(pod, None).is_some() || pod.metadata.deletion_timestamp.is_some()
}

/// The end of a Job that is over, by what its last pod says; `gone` is what was seen of one that is no longer there.
pub(super) fn end(job: &Job, pod: Option<&Pod>, gone: Option<&PodEnd>) -> JobEnd {
    let state = state(job, pod);
    let exit_code = pod.and_then(exit_code);
    if state == JobState::Succeeded {
        return JobEnd { exit_code: exit_code.or(Some(0)), state, reason: String::new(), detail: None };
    }
    let condition = over(job);
    let said = condition.and_then(|condition| condition.reason.clone()).unwrap_or_default();
    let message = condition.and_then(|condition| condition.message.clone());
    if said == "DeadlineExceeded" {
        let seconds = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let detail = seconds.map_or(message, |seconds| Some(format!("it took longer than {seconds} s")));
        return JobEnd { exit_code: None, state, reason: said, detail };
    }
    if let Some((name, code)) = pod.and_then(failed_preparation) {
        let reason = format!("init container {name} ended: exit code {code}");
        return JobEnd { exit_code: None, state, reason, detail: None };
    }
    let of_pod = pod.filter(|pod| has_ended(pod)).map(|pod| story::end_of_vanished(pod, None));
    match of_pod.as_ref().or(gone) {
        Some(PodEnd { reason, detail }) => {
            JobEnd { exit_code, state, reason: reason.clone(), detail: detail.clone().filter(|_| exit_code.is_none()) }
        }
        None => JobEnd { exit_code, state, reason: said, detail: message },
    }
}

/// The exit code of a build that came to its end by itself.
fn exit_code(pod: &Pod) -> Option<i32> {
    let ended = story::buildkitd(pod).and_then(story::last_end_of)?;
    let by_itself = ended.reason.as_deref() != Some("OOMKilled")
        && story::disruption(pod).is_none()
        && story::status_reason(pod).is_none()
        && (pod.metadata.deletion_timestamp.is_none() || ended.exit_code == 0);
    by_itself.then_some(ended.exit_code)
}

/// An init container that has failed, and its exit code.
pub(super) fn failed_preparation(pod: &Pod) -> Option<(String, i32)> {
    let whole = story::disruption(pod).is_none() && story::status_reason(pod).is_none();
    let mut failed = story::init_containers(pod).filter(|_| whole).filter_map(|status| {
        let ended = story::last_end_of(status).filter(|ended| ended.exit_code != 0)?;
        Some((status.name.clone(), ended.exit_code))
    });
    failed.next()
}
