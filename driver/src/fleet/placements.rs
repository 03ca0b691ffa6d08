//! Where the latest builds of a node went, and why.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::builder::PodName;
use crate::placement::{Chosen, Placing};

/// More are not kept.
const KEPT: usize = 20;

/// The choice of a pod for one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// BuildKit's ref of the build.
    pub build_ref: String,
    pub pod: PodName,
    /// In words for the user.
    pub because: String,
    pub at: SystemTime,
}

/// The latest choices, newest first.
#[derive(Debug, Default)]
pub(super) struct Placements(VecDeque<Placement>);

impl Placements {
    pub(super) fn record(&mut self, placing: &Placing, chosen: &Chosen, at: SystemTime) {
        // A probe is no build.
        if placing.internal {
            return;
        }
        let Chosen { pod, because } = chosen.clone();
        self.0.truncate(KEPT - 1);
        self.0.push_front(Placement { build_ref: placing.build_ref.clone(), pod, because, at });
    }

    pub(super) fn latest(&self) -> Vec<Placement> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_twenty_builds_are_kept_and_no_probe() {
        let mut placements = Placements::default();
        let chosen = Chosen { pod: "kube0-a".parse().unwrap(), because: "drawn at random".to_owned() };
        for i in 0..30 {
            let placing = Placing { build_ref: format!("r{i}"), internal: i % 10 == 9, ..Placing::default() };
            placements.record(&placing, &chosen, SystemTime::UNIX_EPOCH);
        }
        let latest = placements.latest();
        let refs: Vec<&str> = latest.iter().map(|one| one.build_ref.as_str()).collect();
        let builds = (0..30).rev().filter(|i| i % 10 != 9).map(|i| format!("r{i}"));
        assert_eq!(refs, builds.take(20).collect::<Vec<_>>());
        assert_eq!((latest[0].pod.as_str(), latest[0].because.as_str()), ("kube0-a", "drawn at random"));
    }
}
