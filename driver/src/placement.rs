//! Which pod gets a connection: pure functions over the ready pods.

use std::path::Path;

use crate::builder::PodName;
use crate::options::LoadBalance;

/// What makes builds belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StickyKey(Vec<u8>);

impl StickyKey {
    /// The key of a client that runs in `directory`. buildx hashes the path of the build context, which never reaches the
    /// wire; the working directory is the nearest thing that the kernel tells of a client.
    pub fn of_directory(directory: &Path) -> Self {
        Self(directory.as_os_str().as_encoded_bytes().to_vec())
    }
}

/// What is known of a build when its pod is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placing {
    /// The same for all builds of a project.
    pub project: StickyKey,
    /// Tells the builds of one invocation apart, for example the targets of a bake.
    pub part: StickyKey,
    /// Where the other builds of the same invocation were placed: one entry for each.
    pub siblings: Vec<PodName>,
    /// The pod that holds what this build starts from.
    pub linked: Option<PodName>,
    /// Pods on which this build was tried before.
    pub failed: Vec<PodName>,
    /// A client's own probe, which is no build: it counts as no load and may go anywhere.
    pub internal: bool,
}

/// A pod that takes new work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub pod: PodName,
    /// Builds of this daemon that run there now.
    pub running: u32,
}

/// The pod of a build, and why that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub pod: PodName,
    /// In words for the user.
    pub because: String,
}

/// Chooses one of `ready`, or none when there is none. `random` decides under [`LoadBalance::Random`] only.
///
/// Sticky is rendezvous hashing: every (key, pod) pair has a score and the highest wins, so a pod that comes takes 1/n of
/// the keys and a pod that goes gives up only its own.
pub fn choose(policy: LoadBalance, placing: &Placing, random: u64, ready: &[Candidate]) -> Option<Chosen> {
    let chosen = match policy {
        LoadBalance::Sticky => {
            ready.iter().max_by_key(|candidate| (score(&placing.project, &candidate.pod), &candidate.pod))
        }
        LoadBalance::Random => {
            let count = u64::try_from(ready.len()).ok().filter(|count| *count > 0)?;
            ready.get(usize::try_from(random % count).ok()?)
        }
    }?;
    Some(Chosen { pod: chosen.pod.clone(), because: String::new() })
}

/// FNV-1a over key and pod with a finaliser (that of MurmurHash3), because FNV alone hardly mixes its last bytes into the
/// high bits, and pods' names differ only there. Not `DefaultHasher`: that may change with the compiler, and caches would
/// move with it.
fn score(key: &StickyKey, pod: &PodName) -> u64 {
    let bytes = key.0.iter().chain([&0xff]).chain(pod.as_str().as_bytes());
    let mut hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pods(count: usize) -> Vec<Candidate> {
        let pod = |i| format!("kube0-6977cdcb75-{i:05}").parse().unwrap();
        (0..count).map(|i| Candidate { pod: pod(i), running: 0 }).collect()
    }

    fn key(i: usize) -> StickyKey {
        StickyKey::of_directory(Path::new(&format!("/home/user/src/project-{i}")))
    }

    fn project(i: usize) -> Placing {
        Placing { project: key(i), ..Placing::default() }
    }

    fn sticky(i: usize, ready: &[Candidate]) -> PodName {
        choose(LoadBalance::Sticky, &project(i), 0, ready).unwrap().pod
    }

    #[test]
    fn without_a_ready_pod_none_is_chosen() {
        assert_eq!(choose(LoadBalance::Sticky, &project(0), 7, &[]), None);
        assert_eq!(choose(LoadBalance::Random, &project(0), 7, &[]), None);
    }

    #[test]
    fn the_same_project_lands_on_the_same_pod_whatever_the_order() {
        let mut ready = pods(5);
        let before: Vec<PodName> = (0..100).map(|i| sticky(i, &ready)).collect();
        ready.reverse();
        for (i, pod) in before.iter().enumerate() {
            assert_eq!(sticky(i, &ready), *pod);
        }
    }

    #[test]
    fn projects_spread_over_the_pods() {
        let ready = pods(4);
        let mut counts = BTreeMap::new();
        for i in 0..1000 {
            *counts.entry(sticky(i, &ready)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| (180..320).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_pod_that_goes_gives_up_only_its_own_projects() {
        let all = pods(4);
        let fewer = &all[..3];
        for i in 0..500 {
            let before = sticky(i, &all);
            if fewer.iter().any(|candidate| candidate.pod == before) {
                assert_eq!(sticky(i, fewer), before);
            }
        }
    }

    #[test]
    fn a_pod_that_comes_takes_about_its_share() {
        let all = pods(4);
        let moved = (0..1000).filter(|i| sticky(*i, &all[..3]) != sticky(*i, &all)).count();
        assert!((180..320).contains(&moved), "{moved}");
    }

    #[test]
    fn random_takes_the_pod_that_the_number_names() {
        let ready = pods(3);
        for (random, index) in [(0, 0), (1, 1), (5, 2), (u64::MAX, 0)] {
            let chosen = choose(LoadBalance::Random, &project(0), random, &ready).unwrap();
            assert_eq!(chosen.pod, ready[index].pod);
        }
    }
}
