//! What a node's pods keep of what they did, and which of them to ask for it. Asking starts no pod.

use std::sync::Arc;

use super::hearing::{Hearing, Patience};
use super::tally::Tally;
use crate::fleet::{Lease, NodeFleet, PodSnapshot};
use crate::proxy::builds::Builds;
use crate::proxy::finished::Finished;
use crate::proxy::unary::Question;
use crate::shutdown::Shutdown;
use crate::wire::{Code, Status};

/// All that is needed to find something.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Archive<'a> {
    pub(in crate::proxy) fleet: &'a Arc<NodeFleet>,
    pub(in crate::proxy) finished: &'a Finished,
    pub(in crate::proxy) builds: &'a Builds,
    pub(in crate::proxy) shutdown: &'a Shutdown,
}

/// Where a build's record is, as far as is known here.
#[derive(Debug)]
pub(in crate::proxy) enum Owner {
    Here(Lease),
    /// The pod exists and cannot be asked now: why, in words that name it.
    Away(String),
    Unknown,
}

/// One question to all pods.
#[derive(Debug)]
pub(in crate::proxy) struct Round<'a> {
    pub(in crate::proxy) hearings: Vec<Hearing>,
    /// Has the pods that could not be asked.
    pub(in crate::proxy) tally: Tally<'a>,
}

impl<'a> Archive<'a> {
    /// Asks every pod. `call` is how that is named to users.
    pub(in crate::proxy) async fn everyone(
        &self,
        question: &Question,
        patience: Patience,
        call: &'static str,
    ) -> Round<'a> {
        let roll = self.fleet.roll_call().await;
        let mut tally = Tally::new(self.fleet, call);
        for (pod, why) in &roll.unreachable {
            tally.unreachable(Some(pod), why);
        }
        if let Some(why) = &roll.unknown {
            tally.unreachable(None, why);
        }
        let leases = roll.reachable.iter().filter_map(|pod| self.fleet.visit(pod));
        let hearings = leases.map(|lease| Hearing::new(lease, question, patience)).collect();
        Round { hearings, tally }
    }

    /// The pod that a build runs on or has run on.
    pub(in crate::proxy) async fn owner(&self, reference: &str) -> Owner {
        let Some(pod) = self.builds.pod_of(reference).or_else(|| self.finished.owner(reference)) else {
            return Owner::Unknown;
        };
        if let Some(lease) = self.fleet.visit(&pod) {
            return Owner::Here(lease);
        }
        // Right after a daemon's start it may be about to be connected.
        self.fleet.roll_call().await;
        if let Some(lease) = self.fleet.visit(&pod) {
            return Owner::Here(lease);
        }
        let snapshots = self.fleet.watch();
        let snapshot = snapshots.borrow();
        // A pod that is gone took its records with it.
        let away = snapshot.pods.iter().find(|seen| seen.name == pod);
        away.map_or(Owner::Unknown, |pod| Owner::Away(away_in_words(pod)))
    }

    /// What to say of a thing when no pod can be asked.
    pub(in crate::proxy) fn nobody(&self, what: &str) -> Status {
        Status::new(Code::NotFound, format!("{what}: no pod of node {} runs", self.fleet.name()))
    }

    /// Any pod that answers.
    pub(in crate::proxy) fn anyone(&self) -> Option<Lease> {
        self.fleet.reachable().iter().find_map(|pod| self.fleet.visit(pod))
    }
}

fn away_in_words(pod: &PodSnapshot) -> String {
    let why = pod.reason.as_deref().unwrap_or("there is no connection to it now");
    format!("pod {} cannot be reached: {why}", pod.name)
}
