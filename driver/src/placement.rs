//! Which pod gets a build, and why: pure functions over the ready pods.

use crate::builder::PodName;
use crate::options::LoadBalance;

pub mod ketama;
mod key;
mod score;
#[cfg(test)]
mod tests;

pub use key::StickyKey;

/// What is known of a build when its pod is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placing {
    /// BuildKit's ref of the build, for those who look at placements later; it decides nothing.
    pub build_ref: String,
    /// The same for all builds of a project; unknown when nothing tells it.
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
    /// In words for the user: one clause.
    pub because: String,
}

/// Chooses one of `ready`, or none when there is none. `random` decides under [`LoadBalance::Random`], and between pods that
/// are equally good for a probe.
///
/// Sticky is rendezvous hashing: every (key, pod) pair has a score and the highest wins, so a pod that comes takes 1/n of
/// the keys and a pod that goes gives up only its own.
pub fn choose(policy: LoadBalance, placing: &Placing, random: u64, ready: &[Candidate]) -> Option<Chosen> {
    if let Some(linked) = placing.linked.as_ref().filter(|linked| ready.iter().any(|one| one.pod == **linked)) {
        return Some(Chosen { pod: linked.clone(), because: format!("starts from what pod {linked} built") });
    }
    let untried: Vec<&Candidate> = ready.iter().filter(|one| !placing.failed.contains(&one.pod)).collect();
    let pods = if untried.is_empty() { ready.iter().collect() } else { untried };
    let (pod, because) = match policy {
        _ if placing.internal => {
            let fewest = fewest(&pods)?;
            let idlest: Vec<&Candidate> = pods.into_iter().filter(|one| one.running == fewest).collect();
            (drawn(&idlest, random)?, format!("a probe: fewest builds running ({fewest})"))
        }
        LoadBalance::Random => (drawn(&pods, random)?, "drawn at random".to_owned()),
        LoadBalance::LeastLoaded => least_loaded(placing, &pods)?,
        // All builds of which nothing is known would have one home.
        LoadBalance::Sticky | LoadBalance::StickyBounded if placing.project.is_unknown() => {
            let (pod, because) = least_loaded(placing, &pods)?;
            (pod, format!("nothing tells its project: {because}"))
        }
        LoadBalance::Sticky => sticky(placing, ready, &pods, None)?,
        LoadBalance::StickyBounded => sticky(placing, ready, &pods, Some(bound(&pods)))?,
    };
    Some(Chosen { pod: pod.pod.clone(), because })
}

fn drawn<'a>(pods: &[&'a Candidate], random: u64) -> Option<&'a Candidate> {
    let count = u64::try_from(pods.len()).ok().filter(|count| *count > 0)?;
    pods.get(usize::try_from(random % count).ok()?).copied()
}

fn fewest(pods: &[&Candidate]) -> Option<u32> {
    pods.iter().map(|one| one.running).min()
}

fn least_loaded<'a>(placing: &Placing, pods: &[&'a Candidate]) -> Option<(&'a Candidate, String)> {
    let fewest = fewest(pods)?;
    let idlest = pods.iter().copied().filter(|one| one.running == fewest);
    Some((first_in_order(&[&placing.project], idlest)?, format!("fewest builds running ({fewest})")))
}

/// The project's first pod in rendezvous order; for a build that has siblings, its own first pod among those that hold
/// fewer than their share of them. A pod that runs `bound` builds is passed over.
fn sticky<'a>(
    placing: &Placing,
    ready: &'a [Candidate],
    pods: &[&'a Candidate],
    bound: Option<u32>,
) -> Option<(&'a Candidate, String)> {
    let has_room = |one: &Candidate| bound.is_none_or(|bound| one.running < bound);
    let roomy: Vec<&Candidate> = pods.iter().copied().filter(|one| has_room(one)).collect();
    let project = &placing.project;
    let siblings = placing.siblings.len();
    if siblings > 0 {
        let held = |one: &Candidate| placing.siblings.iter().filter(|pod| **pod == one.pod).count();
        // Those on pods that are out of the question would raise the share of the others beyond an even one.
        let share = (roomy.iter().map(|one| held(one)).sum::<usize>() + 1).div_ceil(roomy.len().max(1));
        let others = if siblings == 1 { "build" } else { "builds" };
        let because = format!("spread beside {siblings} other {others} of this invocation");
        let below = roomy.into_iter().filter(|one| held(one) < share);
        return Some((first_in_order(&[project, &placing.part], below)?, because));
    }
    let chosen = first_in_order(&[project], roomy.iter().copied())?;
    let home = first_in_order(&[project], ready.iter())?;
    let because = if chosen == home {
        format!("home of project {project}")
    } else if let Some(bound) = bound.filter(|bound| home.running >= *bound) {
        let (pod, running) = (&home.pod, home.running);
        format!("next for project {project}: its home {pod} has its share ({running} of {bound} builds)")
    } else {
        format!("next for project {project}: it was tried on its home {} before", home.pod)
    };
    Some((chosen, because))
}

/// What a pod may run at most, with the new build among them: 1.25 times an even share, rounded up. The least busy pod
/// always has room below it.
fn bound(pods: &[&Candidate]) -> u32 {
    let builds = pods.iter().map(|one| u64::from(one.running)).sum::<u64>() + 1;
    let pods = u64::try_from(pods.len()).unwrap_or(u64::MAX).max(1);
    u32::try_from((5 * builds).div_ceil(4 * pods)).unwrap_or(u32::MAX)
}

/// The pod with the highest score. Ties, which are one in 2^64, go by name, so that the order of `pods` never matters.
fn first_in_order<'a>(key: &[&StickyKey], pods: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    pods.max_by_key(|one| (score::score(key, &one.pod), &one.pod))
}
