//! The part of the view that is about pods of somebody else: what leads to them, and the ways in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod as KubePod, Service};
use kube::runtime::watcher;

use super::View;
use super::listed::Listed;
use crate::backend::kubernetes::attached::pods::{self, Entrance};
use crate::backend::kubernetes::attached::port::{self, PortError};
use crate::backend::kubernetes::follow::Lead;
use crate::backend::{Pods, StoryLine};
use crate::builder::{PodName, ServicePort};
use crate::manifest::Workload;

/// What is not ours is only used.
#[derive(Debug)]
pub(super) struct Theirs {
    lead: Lead,
    /// Where `buildkitd` is, if somebody said so.
    container: Option<String>,
    services: Listed<Service>,
    /// Not used now: its pods are not shown.
    detached: bool,
    /// By pod.
    entrances: BTreeMap<String, Entrance>,
}

impl Theirs {
    pub(super) fn enter(&mut self, pod: KubePod) -> KubePod {
        pods::as_ours(pod, self.container.as_deref(), &mut self.entrances)
    }

    pub(super) fn left(&mut self, pod: &str) {
        self.entrances.remove(pod);
    }

    pub(super) fn lead_failed(&mut self, workloads: &mut Listed<Workload>, why: String) {
        match self.lead {
            Lead::Service => self.services.failed(why),
            Lead::Workload(_) | Lead::Pod => workloads.failed(why),
        }
    }

    fn service(&self) -> Option<&Service> {
        self.services.objects.values().next()
    }
}

impl View {
    /// Of what somebody else runs, and in which container of it `buildkitd` is, if that is known.
    pub(in super::super) fn theirs(lead: Lead, container: Option<String>) -> Self {
        let theirs =
            Theirs { lead, container, services: Listed::default(), detached: false, entrances: BTreeMap::new() };
        let mut view = Self { theirs: Some(theirs), ..Self::default() };
        // There is none to wait for.
        view.workloads.seen = !matches!(lead, Lead::Workload(_));
        view
    }

    /// Ends the use of what is not ours, or begins it again.
    pub(in super::super) fn detach(&mut self, detached: bool) {
        if let Some(theirs) = &mut self.theirs {
            theirs.detached = detached;
        }
    }

    pub(in super::super) fn service(&mut self, event: watcher::Event<Service>) {
        if let Some(theirs) = &mut self.theirs {
            theirs.services.take(event);
        }
        self.without_lead();
    }

    /// Where nothing says which pods to look for, there are none.
    pub(super) fn without_lead(&mut self) {
        let Some(theirs) = &self.theirs else { return };
        let none = match theirs.lead {
            Lead::Workload(_) => self.workloads.seen && self.workloads.objects.is_empty(),
            Lead::Service => theirs.services.seen && self.selector().is_none(),
            Lead::Pod => false,
        };
        if none {
            self.pod(watcher::Event::Init);
            self.pod(watcher::Event::InitDone);
        }
    }

    /// What selects the pods of the workload or the Service that is there.
    pub(in super::super) fn selector(&self) -> Option<String> {
        match self.theirs.as_ref().and_then(Theirs::service) {
            Some(service) => pods::of_service(service),
            None => self.workloads.objects.values().next().and_then(pods::selector),
        }
    }

    /// The way to `buildkitd` in a pod that is not ours.
    pub(in super::super) fn entrance(&self, name: &PodName) -> Option<Entrance> {
        self.theirs.as_ref()?.entrances.get(name.as_str()).cloned()
    }

    /// The port of a pod that the Service means by `wanted`; `None` while one of them is not there.
    pub(in super::super) fn port(
        &self,
        name: &PodName,
        wanted: Option<&ServicePort>,
    ) -> Option<Result<u16, PortError>> {
        let service = self.theirs.as_ref()?.service()?;
        let pod = self.pods.objects.get(name.as_str())?;
        Some(port::of_pod(service, wanted, pod))
    }

    /// Whether there is anything to use; `None` while that is not known.
    pub(in super::super) fn is_there(&self) -> Option<bool> {
        match self.theirs.as_ref().map(|theirs| (theirs.lead, &theirs.services)) {
            Some((Lead::Pod, _)) => self.pods.is_known().then_some(!self.pods.objects.is_empty()),
            Some((Lead::Service, services)) => services.is_known().then_some(!services.objects.is_empty()),
            _ => self.workloads.is_known().then_some(!self.workloads.objects.is_empty()),
        }
    }

    pub(super) fn of_theirs(&self, theirs: &Theirs, workload: Option<&Workload>, mut notes: Vec<StoryLine>) -> Pods {
        notes.extend(theirs.services.note());
        let count = u32::try_from(self.pods.objects.len()).unwrap_or(u32::MAX);
        let (lead_known, replicas) = match theirs.lead {
            Lead::Workload(_) => (self.workloads.is_known(), workload.and_then(Workload::replicas)),
            Lead::Service => (theirs.services.is_known(), theirs.service().map(|_| count)),
            Lead::Pod => (true, Some(1)),
        };
        let known = self.disconnected.is_none() && self.pods.is_known() && lead_known;
        if let Some(workload) = workload.filter(|_| replicas == Some(0)) {
            let note = format!("{} has no pods: whoever runs it has scaled it to zero", workload.called());
            notes.push(StoryLine::trouble(note));
        }
        if let Some(service) = theirs.service().filter(|_| known && count == 0) {
            notes.push(StoryLine::trouble(pods::without_pods(service)));
        }
        let pods = self.pods.objects.iter().filter(|_| !theirs.detached);
        Pods {
            known,
            applied: self.is_there() == Some(true) && !theirs.detached,
            pods: pods.filter_map(|(name, pod)| self.pod_snapshot(name, pod)).collect(),
            notes,
            ended: self.ended.clone(),
            replicas,
            ..Pods::default()
        }
    }
}
