//! What became of one call on each of the pods, and what the client is told about the pods that did not answer it.
//!
//! gRPC has no place for a warning beside an answer, and no client of BuildKit would show one. It goes where it can be
//! found: a trailer, the daemon's log, and the pod's reason in `buildfleet inspect`, which [`Hearing`] gives it.
//!
//! [`Hearing`]: super::Hearing

use http::{HeaderMap, HeaderName};

use super::hearing::Heard;
use crate::builder::PodName;
use crate::fleet::NodeFleet;
use crate::wire::{self, Code, Status};

/// Has one line for each pod whose part is missing in an answer.
const WARNING: HeaderName = HeaderName::from_static("buildfleet-warning");

/// The ends of one call, as they come in.
#[derive(Debug)]
pub(in crate::proxy) struct Tally<'a> {
    fleet: &'a NodeFleet,
    /// How the call is named to users.
    call: &'static str,
    answered: bool,
    /// The first end that was not good, whether a pod gave it or had none.
    first: Option<HeaderMap>,
    /// The first status other than OK that a pod gave, and one line for each pod that did.
    refusal: Option<HeaderMap>,
    refused: Vec<String>,
    /// One line for each pod that gave no answer.
    missing: Vec<String>,
}

impl<'a> Tally<'a> {
    pub(in crate::proxy) fn new(fleet: &'a NodeFleet, call: &'static str) -> Self {
        let (refused, missing) = (Vec::new(), Vec::new());
        Self { fleet, call, answered: false, first: None, refusal: None, refused, missing }
    }

    /// There is no way to a pod that runs; or, without a name, to know which pods run.
    pub(in crate::proxy) fn unreachable(&mut self, pod: Option<&PodName>, why: &str) {
        let text = match pod {
            Some(pod) => format!("pod {pod} cannot be reached: {why}"),
            None => why.to_owned(),
        };
        tracing::warn!(node = %self.fleet.name(), call = self.call, "{text}");
        self.missing.push(text);
    }

    /// How a pod ended its answer.
    pub(in crate::proxy) fn ended(&mut self, pod: &PodName, end: Heard) {
        match end {
            Heard::Message(_) => {}
            Heard::End(trailers) => {
                if wire::code(&trailers) == Some(0) {
                    self.answered = true;
                    return;
                }
                self.refused.push(format!("pod {pod} refused {}: {}", self.call, wire::message_text(&trailers)));
                self.first.get_or_insert_with(|| trailers.clone());
                self.refusal.get_or_insert(trailers);
            }
            Heard::Failed(status) => {
                let text = &status.message;
                tracing::warn!(node = %self.fleet.name(), %pod, call = self.call, "{text}");
                self.missing.push(text.clone());
                self.first.get_or_insert_with(|| status.trailers());
            }
        }
    }

    /// Which pods gave no answer, in words.
    pub(in crate::proxy) fn missing(&self) -> Option<String> {
        (!self.missing.is_empty()).then(|| self.missing.join("; "))
    }

    /// The first bad status that a pod gave.
    pub(in crate::proxy) fn refusal(self) -> Option<HeaderMap> {
        self.refusal
    }

    /// The end of a report: what some pods say is worth having without the others.
    pub(in crate::proxy) fn of_report(self) -> HeaderMap {
        let trailers = match (self.answered, &self.refusal, self.missing()) {
            (true, _, _) | (false, None, None) => Status::new(Code::Ok, "").trailers(),
            (false, Some(refusal), _) => refusal.clone(),
            (false, None, Some(missing)) => {
                let text = format!("no pod of node {} answered: {missing}", self.fleet.name());
                Status::new(Code::Unavailable, text).trailers()
            }
        };
        self.with_warnings(trailers)
    }

    /// The end of a task: what one pod did not do is not done.
    pub(in crate::proxy) fn of_task(self) -> HeaderMap {
        match self.first.clone() {
            Some(first) => self.with_warnings(first),
            None => self.of_report(),
        }
    }

    fn with_warnings(self, mut trailers: HeaderMap) -> HeaderMap {
        for warning in self.missing.iter().chain(&self.refused) {
            trailers.append(WARNING, wire::percent_encoded(warning));
        }
        trailers
    }
}
