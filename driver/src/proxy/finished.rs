//! Which pod built what: where the record of a finished build and its contents are, long after its connection is gone.
//!
//! A hint and no more: `buildkitd` may have dropped the record, and other daemons build on the same pods. Whoever finds
//! nothing where this table points asks every pod.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use buildfleet_proto::buildkit::{BuildHistoryRecord, BuildResultInfo, Descriptor};
use tokio::sync::watch;

use crate::builder::PodName;

/// Builds of one node that are kept. A pod keeps 50 by itself; with more than 20 pods the oldest are looked for.
const BUILDS: usize = 1_000;

/// As long as `buildkitd` keeps its records at least, by default.
const AGE: Duration = Duration::from_secs(48 * 60 * 60);

/// Contents whose pod is kept: about five for each record.
const DIGESTS: usize = 5_000;

/// Clients choose refs. Those of buildx and buildctl have 25 characters; one that is longer than this is not kept.
const LONGEST: usize = 256;

/// Where a build ran, and when it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    pod: PodName,
    when: SystemTime,
}

/// The finished builds of a node at one moment, by their ref. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinishedBuilds(Arc<BTreeMap<String, Place>>);

impl FinishedBuilds {
    /// Ref, pod and end of each build, sorted by ref.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PodName, SystemTime)> {
        self.0.iter().map(|(reference, place)| (reference.as_str(), &place.pod, place.when))
    }

    /// Later words about the same ref win, except that a pod is not told twice.
    fn insert(&mut self, reference: &str, place: Place, now: SystemTime) -> bool {
        let known = self.0.get(reference);
        let news = known.is_none_or(|known| known.pod != place.pod && known.when <= place.when);
        if reference.is_empty() || reference.len() > LONGEST || is_old(&place, now) || !news {
            return false;
        }
        let builds = Arc::make_mut(&mut self.0);
        builds.insert(reference.to_owned(), place);
        if builds.len() > BUILDS {
            builds.retain(|_, place| !is_old(place, now));
        }
        while builds.len() > BUILDS {
            let Some(oldest) = builds.iter().min_by_key(|(_, place)| place.when).map(|(name, _)| name.clone()) else {
                break;
            };
            builds.remove(&oldest);
        }
        true
    }

    fn owner(&self, reference: &str, now: SystemTime) -> Option<&PodName> {
        self.0.get(reference).filter(|place| !is_old(place, now)).map(|place| &place.pod)
    }
}

impl<'a> FromIterator<(&'a str, PodName, SystemTime)> for FinishedBuilds {
    fn from_iter<T: IntoIterator<Item = (&'a str, PodName, SystemTime)>>(builds: T) -> Self {
        let (mut all, now) = (Self::default(), SystemTime::now());
        for (reference, pod, when) in builds {
            all.insert(reference, Place { pod, when }, now);
        }
        all
    }
}

/// An end in the future, by a clock that was set back since, is not old.
fn is_old(place: &Place, now: SystemTime) -> bool {
    now.duration_since(place.when).is_ok_and(|age| age > AGE)
}

/// Shared by all that a node's clients ask: bounded, and worth to outlive the daemon.
#[derive(Debug, Default)]
pub struct Finished {
    builds: watch::Sender<FinishedBuilds>,
    digests: Mutex<Digests>,
}

impl Finished {
    /// Starts with what an earlier daemon knew.
    pub fn new(known: FinishedBuilds) -> Self {
        Self { builds: watch::Sender::new(known), digests: Mutex::default() }
    }

    /// The builds now, and after every change.
    pub fn watch(&self) -> watch::Receiver<FinishedBuilds> {
        self.builds.subscribe()
    }

    /// A build has ended on this pod.
    pub fn record(&self, reference: &str, pod: &PodName, when: SystemTime) {
        let place = Place { pod: pod.clone(), when };
        self.builds.send_if_modified(|builds| builds.insert(reference, place, SystemTime::now()));
    }

    /// The pod that has a build's record, as far as is known.
    pub fn owner(&self, reference: &str) -> Option<PodName> {
        self.builds.borrow().owner(reference, SystemTime::now()).cloned()
    }

    /// A pod has a build's record no more.
    pub fn forget(&self, reference: &str, pod: &PodName) {
        self.builds.send_if_modified(|builds| {
            let known = builds.0.get(reference).is_some_and(|place| place.pod == *pod);
            known && Arc::make_mut(&mut builds.0).remove(reference).is_some()
        });
    }

    /// A pod has shown this record: it has the record's contents too.
    pub fn learn(&self, record: &BuildHistoryRecord, pod: &PodName) {
        let ended = record.completed_at.and_then(|at| SystemTime::try_from(at).ok());
        if let Some(when) = ended {
            self.record(&record.r#ref, pod, when);
        }
        let mut digests = self.digests();
        for content in contents(record) {
            digests.insert(&content.digest, pod);
        }
    }

    /// A pod has shown this content.
    pub fn learn_digest(&self, digest: &str, pod: &PodName) {
        self.digests().insert(digest, pod);
    }

    /// The pod that has a content, as far as is known.
    pub fn holder(&self, digest: &str) -> Option<PodName> {
        self.digests().holders.get(digest).cloned()
    }

    fn digests(&self) -> MutexGuard<'_, Digests> {
        // Nothing that runs under this lock can leave it half changed.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that a record names in its pod's content store.
fn contents<'a>(record: &'a BuildHistoryRecord) -> impl Iterator<Item = &'a Descriptor> {
    let of_result = |result: &'a BuildResultInfo| {
        result.result_deprecated.iter().chain(&result.attestations).chain(result.results.values())
    };
    let results = record.result.iter().chain(record.results.values()).flat_map(of_result);
    [&record.logs, &record.trace, &record.external_error].into_iter().flatten().chain(results)
}

/// Which pod has which content: the oldest knowledge goes first.
#[derive(Debug, Default)]
struct Digests {
    holders: BTreeMap<String, PodName>,
    order: VecDeque<String>,
}

impl Digests {
    fn insert(&mut self, digest: &str, pod: &PodName) {
        if digest.is_empty() || digest.len() > LONGEST {
            return;
        }
        if self.holders.insert(digest.to_owned(), pod.clone()).is_none() {
            self.order.push_back(digest.to_owned());
        }
        if self.order.len() > DIGESTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.holders.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodName {
        name.parse().unwrap()
    }

    fn ago(seconds: u64) -> SystemTime {
        SystemTime::now() - Duration::from_secs(seconds)
    }

    fn descriptor(digest: &str) -> Descriptor {
        Descriptor { digest: digest.to_owned(), ..Descriptor::default() }
    }

    #[test]
    fn a_finished_build_is_found_on_the_pod_that_told_of_it_last() {
        let finished = Finished::default();
        assert_eq!(finished.owner("r1"), None);
        finished.record("r1", &pod("a"), ago(10));
        finished.record("r2", &pod("b"), ago(9));
        assert_eq!((finished.owner("r1"), finished.owner("r2")), (Some(pod("a")), Some(pod("b"))));
        // Replayed on another pod; the failed attempt, heard of again, does not count.
        finished.record("r1", &pod("b"), ago(5));
        finished.record("r1", &pod("a"), ago(10));
        assert_eq!(finished.owner("r1"), Some(pod("b")));
        finished.forget("r1", &pod("a"));
        assert_eq!(finished.owner("r1"), Some(pod("b")));
        finished.forget("r1", &pod("b"));
        assert_eq!(finished.owner("r1"), None);
    }

    #[test]
    fn only_news_wake_who_writes_them_down() {
        let finished = Finished::default();
        let mut watch = finished.watch();
        finished.record("r1", &pod("a"), ago(10));
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        finished.record("r1", &pod("a"), ago(5));
        finished.forget("r2", &pod("a"));
        assert!(!watch.has_changed().unwrap());
        finished.forget("r1", &pod("a"));
        assert!(watch.has_changed().unwrap());
    }

    #[test]
    fn builds_are_kept_for_two_days_and_never_more_than_a_thousand() {
        let finished = Finished::default();
        finished.record("old", &pod("a"), ago(AGE.as_secs() + 60));
        assert_eq!(finished.owner("old"), None);
        finished.record("ahead", &pod("a"), SystemTime::now() + AGE);
        assert_eq!(finished.owner("ahead"), Some(pod("a")));
        for i in 0..BUILDS + 10 {
            finished.record(&format!("r{i}"), &pod("a"), ago(2_000 - i as u64));
        }
        assert_eq!(finished.watch().borrow().iter().count(), BUILDS);
        assert_eq!((finished.owner("r10"), finished.owner("r11")), (None, Some(pod("a"))));
    }

    #[test]
    fn what_no_client_sends_is_not_kept() {
        let finished = Finished::default();
        finished.record("", &pod("a"), ago(1));
        finished.record(&"x".repeat(LONGEST + 1), &pod("a"), ago(1));
        finished.learn_digest("", &pod("a"));
        assert_eq!(finished.watch().borrow().iter().count(), 0);
        assert_eq!(finished.holder(""), None);
    }

    #[test]
    fn an_earlier_daemons_builds_are_taken_over_less_the_old_ones() {
        let known = [("r1", pod("a"), ago(60)), ("r2", pod("a"), ago(AGE.as_secs() + 60))];
        let finished = Finished::new(known.into_iter().collect());
        assert_eq!((finished.owner("r1"), finished.owner("r2")), (Some(pod("a")), None));
    }

    #[test]
    fn a_record_tells_of_its_build_and_of_all_its_contents() {
        let result = |name: &str| BuildResultInfo {
            result_deprecated: Some(descriptor(&format!("{name}-old"))),
            attestations: vec![descriptor(&format!("{name}-provenance"))],
            results: [(0, descriptor(&format!("{name}-image")))].into(),
        };
        let record = BuildHistoryRecord {
            r#ref: "r1".to_owned(),
            completed_at: Some(ago(1).into()),
            logs: Some(descriptor("logs")),
            result: Some(result("one")),
            results: [("linux/arm64".to_owned(), result("arm"))].into(),
            trace: Some(descriptor("trace")),
            external_error: Some(descriptor("error")),
            ..BuildHistoryRecord::default()
        };
        let finished = Finished::default();
        finished.learn(&record, &pod("a"));
        assert_eq!(finished.owner("r1"), Some(pod("a")));
        for digest in
            ["logs", "trace", "error", "one-old", "one-provenance", "one-image", "arm-provenance", "arm-image"]
        {
            assert_eq!(finished.holder(digest), Some(pod("a")), "{digest}");
        }
        // One that runs has no end yet, and is the build table's business.
        let running = BuildHistoryRecord { r#ref: "r2".to_owned(), ..BuildHistoryRecord::default() };
        finished.learn(&running, &pod("a"));
        assert_eq!(finished.owner("r2"), None);
    }

    #[test]
    fn the_oldest_digests_go_first() {
        let finished = Finished::default();
        for i in 0..=DIGESTS {
            finished.learn_digest(&format!("sha256:{i}"), &pod("a"));
        }
        finished.learn_digest("sha256:1", &pod("b"));
        assert_eq!(finished.holder("sha256:0"), None);
        assert_eq!(finished.holder("sha256:1"), Some(pod("b")));
        let digests = finished.digests();
        assert_eq!((digests.order.len(), digests.holders.len()), (DIGESTS, DIGESTS));
    }
}
