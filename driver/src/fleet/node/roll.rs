//! The roll call: which pods can be asked something now, which run and cannot, and what is said of those that are silent.

use std::time::Duration;

use super::NodeFleet;
use crate::backend::PodPhase;
use crate::builder::PodName;

/// How long a pod that runs may take to be connected before it counts as one that does not answer. Right after a daemon's
/// start nearly all of it is the time until the backend has looked.
const ROLL_CALL: Duration = Duration::from_secs(5);

/// The pods of a node that may have something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roll {
    pub(crate) reachable: Vec<PodName>,
    /// They run, and there is no way to them: why.
    pub(crate) unreachable: Vec<(PodName, String)>,
    /// Why there may be pods that nobody knows of.
    pub(crate) unknown: Option<String>,
}

impl NodeFleet {
    /// The pods that can be asked, once those that run had a moment to be connected. Starts none.
    pub(crate) async fn roll_call(&self) -> Roll {
        let mut snapshots = self.watch();
        let settled = async {
            // Only `self` drops the sender.
            while !self.is_settled() && snapshots.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(ROLL_CALL, settled).await;
        self.roll()
    }

    fn is_settled(&self) -> bool {
        let reachable = !self.reachable().is_empty();
        let state = self.state();
        let known = state.pods.known || state.wish.stopped || reachable;
        let runs = state.pods.pods.iter().any(|pod| pod.phase == PodPhase::Running);
        known && !state.is_unsettled() && (reachable || !runs)
    }

    fn roll(&self) -> Roll {
        let reachable = self.reachable();
        let state = self.state();
        let silent =
            state.pods.pods.iter().filter(|pod| pod.phase == PodPhase::Running && !reachable.contains(&pod.name));
        let why = |name| {
            let link = state.links.get(name);
            link.and_then(|link| link.trouble.clone()).unwrap_or_else(|| "there is no connection to it yet".to_owned())
        };
        let unreachable = silent.map(|pod| (pod.name.clone(), why(&pod.name))).collect();
        let unknown = (!state.pods.known && !state.wish.stopped && reachable.is_empty()).then(|| {
            let note = state.pods.notes.iter().rev().find(|note| note.trouble);
            note.map_or_else(|| "the node's pods could not be looked up yet".to_owned(), |note| note.text.clone())
        });
        Roll { reachable, unreachable, unknown }
    }

    /// Why a pod that can be reached did not answer, for users to see beside it; `None` once it has.
    pub(in crate::fleet) fn remark(&self, name: &PodName, why: Option<&str>) {
        let news = self.state().links.get(name).is_some_and(|link| link.remark.as_deref() != why);
        if news {
            self.update(|state| {
                if let Some(link) = state.links.get_mut(name) {
                    link.remark = why.map(str::to_owned);
                }
            });
        }
    }

    /// Resolves when the node is removed or changed into another one.
    pub(crate) async fn closed(&self) {
        self.closing.cancelled().await;
    }
}
