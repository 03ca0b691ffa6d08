//! The records of several pods as one list, in the order in which one `buildkitd` tells its own: pure.

use std::cmp::Reverse;

use buildfleet_proto::Timestamp;
use buildfleet_proto::buildkit::{BuildHistoryEvent, BuildHistoryEventType};
use bytes::Bytes;

/// One event as it came, and what its place in the list depends on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    runs: bool,
    created: Option<Timestamp>,
    message: Bytes,
}

impl Told {
    pub(super) fn new(event: &BuildHistoryEvent, message: Bytes) -> Self {
        let created = event.record.as_ref().and_then(|record| record.created_at);
        Self { runs: event.r#type() == BuildHistoryEventType::Started, created, message }
    }
}

/// What runs comes first, and of each kind the newest (`solver/llbsolver/history`, v0.33). `limit` counts finished builds
/// only, and zero is none. Without a limit one `buildkitd` sorts by ref, which is by chance: the newest first is as good.
pub(super) fn in_order(mut told: Vec<Told>, limit: i32) -> impl Iterator<Item = Bytes> {
    told.sort_by_key(|event| {
        let age = event.created.map(|at| (at.seconds, at.nanos));
        (!event.runs, Reverse(age))
    });
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let running = told.iter().filter(|event| event.runs).count();
    told.into_iter().take(running.saturating_add(limit)).map(|event| event.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &'static str, runs: bool, created: Option<i64>) -> Told {
        let created = created.map(|seconds| Timestamp { seconds, nanos: 5 });
        Told { runs, created, message: Bytes::from_static(name.as_bytes()) }
    }

    fn names(told: &[Told], limit: i32) -> Vec<Bytes> {
        in_order(told.to_vec(), limit).collect()
    }

    #[test]
    fn what_runs_comes_first_and_the_newest_of_all_pods_before_the_older() {
        let a = [told("a3", false, Some(3)), told("a1", false, Some(1)), told("a-runs", true, Some(2))];
        let b = [told("b-runs", true, Some(4)), told("b2", false, Some(2)), told("timeless", false, None)];
        let all = [a, b].concat();
        assert_eq!(names(&all, 0), ["b-runs", "a-runs", "a3", "b2", "a1", "timeless"]);
        for (limit, wanted) in [(1, 3), (2, 4), (3, 5), (50, 6), (-1, 6)] {
            assert_eq!(names(&all, limit).len(), wanted, "limit {limit}");
        }
        assert_eq!(names(&all, 2), ["b-runs", "a-runs", "a3", "b2"]);
    }

    #[test]
    fn parts_of_a_second_count() {
        let at = |nanos| Some(Timestamp { seconds: 1, nanos });
        let event = |created, name: &'static str| Told { runs: false, created, message: name.into() };
        assert_eq!(names(&[event(at(1), "first"), event(at(2), "second")], 0), ["second", "first"]);
    }

    #[test]
    fn an_event_is_known_by_its_kind_and_its_build_s_begin() {
        use buildfleet_proto::buildkit::BuildHistoryRecord;
        let created_at = Some(Timestamp { seconds: 7, nanos: 0 });
        let record = Some(BuildHistoryRecord { created_at, ..BuildHistoryRecord::default() });
        let event = BuildHistoryEvent { r#type: BuildHistoryEventType::Complete.into(), record };
        let told = Told::new(&event, Bytes::new());
        assert_eq!((told.runs, told.created), (false, created_at));
        assert!(Told::new(&BuildHistoryEvent::default(), Bytes::new()).runs);
    }
}
