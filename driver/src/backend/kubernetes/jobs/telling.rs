//! What a Job's watches have said, and what of it was not told yet: pure.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::runtime::watcher;

use super::{JobEnd, JobEvent, JobState, made, stuck};
use crate::backend::kubernetes::view::View;
use crate::backend::{Pods, StoryLine};

/// All that is known of one Job.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) view: View,
    job: Option<Job>,
    is_gone: bool,
    /// Not yet among what is listed now.
    is_missed: bool,
    /// Why pods could not be made, as the Job's own events say.
    creation: Option<stuck::Stuck>,
    lines: BTreeSet<(Option<String>, String)>,
    /// The pods whose output was read.
    read: BTreeSet<String>,
    pub(super) began: bool,
}

impl Told {
    /// Of a Job that is there.
    pub(super) fn of(job: Job) -> Self {
        Self { job: Some(job), ..Self::default() }
    }

    pub(super) fn job(&mut self, event: watcher::Event<Job>) {
        let uid = self.job.as_ref().and_then(|job| job.metadata.uid.clone());
        let is_ours = |job: &Job| uid.is_none() || job.metadata.uid == uid;
        match event {
            // One of the same name that was made later is another.
            watcher::Event::Apply(job) | watcher::Event::InitApply(job) if is_ours(&job) => {
                (self.is_gone, self.is_missed) = (false, false);
                self.job = Some(job);
            }
            // Gone is only what a whole list has not.
            watcher::Event::Init => self.is_missed = true,
            watcher::Event::InitDone => self.is_gone |= std::mem::take(&mut self.is_missed),
            watcher::Event::Delete(job) if is_ours(&job) => {
                self.job = Some(job);
                self.is_gone = true;
            }
            watcher::Event::Apply(_) | watcher::Event::InitApply(_) | watcher::Event::Delete(_) => {}
        }
    }

    pub(super) fn pod(&mut self, event: watcher::Event<Pod>) {
        self.view.pod(event);
        self.began |= self.view.pods_in_order().into_iter().any(made::has_begun);
    }

    /// An event of the Job itself.
    pub(super) fn job_event(&mut self, event: &watcher::Event<Event>) {
        let (watcher::Event::Apply(event) | watcher::Event::InitApply(event)) = event else { return };
        // One of the same name may have been there before.
        let uid = self.job.as_ref().and_then(|job| job.metadata.uid.as_ref());
        if event.involved_object.uid.as_ref().is_none_or(|about| Some(about) == uid) {
            self.creation = stuck::creation(event).or(self.creation.take());
        }
    }

    pub(super) fn needs_job_events(&self) -> bool {
        self.view.pods_in_order().is_empty()
    }

    /// The pod that waits for the context.
    pub(super) fn awaits_context(&self) -> Option<String> {
        self.view.pods_in_order().into_iter().rev().find(|pod| made::awaits_context(pod)).map(ResourceExt::name_any)
    }

    /// The next pod whose output is there to be read; it counts as read from now on.
    pub(super) fn next_to_read(&mut self) -> Option<String> {
        let pods = self.view.pods_in_order();
        let ready = pods.into_iter().filter(|pod| made::builds(pod)).map(ResourceExt::name_any);
        let next = ready.into_iter().find(|pod| !self.read.contains(pod))?;
        self.read.insert(next.clone());
        Some(next)
    }

    /// Why nothing builds, when something keeps the Job from it.
    pub(super) fn stuck(&self) -> Option<stuck::Stuck> {
        match self.view.pods_in_order().last() {
            Some(pod) => stuck::pod(pod),
            None => self.creation.clone(),
        }
    }

    /// Whether nothing more will be built, as far as the Job says.
    pub(super) fn is_over(&self) -> bool {
        self.is_gone || self.job.as_ref().is_some_and(|job| made::over(job).is_some())
    }

    /// Whether it is also known how: the last pod's own word may come a moment after the Job's.
    pub(super) fn is_explained(&self) -> bool {
        let pods = self.view.pods_in_order();
        self.is_gone || pods.last().is_some_and(|pod| made::has_ended(pod) || made::failed_preparation(pod).is_some())
    }

    /// Whether its last output is not worth the wait: the pod goes, and may take its time.
    pub(super) fn is_cut_short(&self) -> bool {
        self.view.pods_in_order().last().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    /// How it ended.
    pub(super) fn end(&self) -> JobEnd {
        let canceled = JobEnd {
            exit_code: None,
            state: JobState::Canceled,
            reason: "canceled".to_owned(),
            detail: Some("the job was deleted".to_owned()),
        };
        let Some(job) = &self.job else { return canceled };
        if made::over(job).is_none() {
            return canceled;
        }
        let snapshot = self.view.snapshot();
        let pods = self.view.pods_in_order();
        let gone = snapshot.ended.values().next_back();
        let mut end = made::end(job, pods.last().copied(), gone);
        if end.detail.is_none() && end.exit_code.is_none() {
            // The last lines of an init container are among what its pod tells.
            end.detail = self.trouble(&snapshot).filter(|text| *text != end.reason);
        }
        end
    }

    /// The end of a Job that is given up because its pod does not start.
    pub(super) fn given_up(&self, reason: String) -> JobEnd {
        let snapshot = self.view.snapshot();
        let detail = self.trouble(&snapshot).or_else(|| self.stuck().map(|stuck| stuck.message));
        JobEnd { exit_code: None, state: JobState::Failed, reason, detail }
    }

    /// The last trouble of the last pod.
    fn trouble(&self, snapshot: &Pods) -> Option<String> {
        let last = self.view.pods_in_order().last()?.name_any();
        let pod = snapshot.pods.iter().find(|pod| pod.name.as_str() == last)?;
        pod.story.iter().rev().find(|line| line.trouble).map(|line| line.text.clone())
    }

    pub(super) fn uid(&self) -> Option<String> {
        self.job.as_ref()?.metadata.uid.clone()
    }

    /// The Job as it is now.
    pub(super) fn seen(&self) -> Option<JobEvent> {
        let pods: Vec<Pod> = self.view.pods_in_order().into_iter().cloned().collect();
        Some(JobEvent::Job(made::view(self.job.as_ref()?, &pods)))
    }

    /// What was not told before.
    pub(super) fn news(&mut self) -> Vec<JobEvent> {
        let Pods { pods, notes, .. } = self.view.snapshot();
        let of_job = self.creation.iter().filter(|_| pods.is_empty());
        let of_job = of_job.map(|stuck| StoryLine::trouble(format!("pods cannot be created: {}", stuck.message)));
        let mut all: Vec<(Option<String>, StoryLine)> =
            notes.into_iter().chain(of_job).map(|line| (None, line)).collect();
        for pod in pods {
            all.extend(pod.story.into_iter().map(|line| (Some(pod.name.to_string()), line)));
        }
        all.retain(|(pod, line)| self.lines.insert((pod.clone(), line.text.clone())));
        all.into_iter().map(|(pod, line)| JobEvent::News { pod, line }).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn a_job_is_gone_when_a_whole_list_has_it_not() {
        let job = |uid: &str| Job {
            metadata: ObjectMeta { uid: Some(uid.to_owned()), ..ObjectMeta::default() },
            ..Job::default()
        };
        let after = |events: Vec<watcher::Event<Job>>| {
            let mut told = Told::of(job("a"));
            events.into_iter().for_each(|event| told.job(event));
            told.is_over()
        };
        use watcher::Event::{Delete, Init, InitApply, InitDone};
        for (events, gone) in [
            (vec![Init], false),
            (vec![Init, InitApply(job("a"))], false),
            (vec![Init, InitApply(job("a")), InitDone, Init], false),
            (vec![Init, InitDone], true),
            (vec![Init, InitApply(job("b")), InitDone], true),
            (vec![Init, InitApply(job("a")), InitDone, Delete(job("a"))], true),
            (vec![Delete(job("b"))], false),
        ] {
            let shown = format!("{events:?}");
            assert_eq!(after(events), gone, "{shown}");
        }
    }
}
