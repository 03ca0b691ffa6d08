//! Whether nobody has used a node for long. Pure: the time is told.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::backend::kubernetes::marks::Marks;
use crate::backend::kubernetes::{apply, live};
use crate::manifest::TTL_ANNOTATION;
use crate::options::Ttl;

/// What is left of a node is older than this: an order makes a workload's Secrets a moment before it.
const LEFT: Duration = Duration::from_secs(60 * 60);

/// What is to become of an object, and why, for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Due(String),
    Stays(String),
}

/// Of a workload, whose own time goes before the one that is given for all.
pub(super) fn of_workload(metadata: &ObjectMeta, given: Option<Ttl>, now: Timestamp) -> Verdict {
    let marks = Marks::of(metadata);
    if marks.is_let_go() {
        return Verdict::Stays("everybody who used it has let go of it and left it there on purpose".to_owned());
    }
    let own = metadata.annotations.as_ref().and_then(|annotations| annotations.get(TTL_ANNOTATION));
    let ttl = match own.map(|text| text.parse::<Ttl>()) {
        Some(Ok(ttl)) => Some(ttl),
        // Somebody has edited it: what it means is not for us to guess.
        Some(Err(error)) => return Verdict::Stays(format!("its annotation {TTL_ANNOTATION} cannot be read: {error}")),
        None => given,
    };
    let idle = since(last_used(metadata), now);
    let who = marks.last_user().map(|who| format!(" by {who}")).unwrap_or_default();
    let used = format!("last used {} ago{who}", Ttl::After(idle));
    match ttl {
        None => Verdict::Stays(format!("{used}, and neither it nor --ttl says for how long it is kept")),
        Some(Ttl::Never) => Verdict::Stays(format!("{used}; its ttl is never")),
        Some(Ttl::After(ttl)) if idle >= ttl => Verdict::Due(format!("{used}; its ttl is {}", Ttl::After(ttl))),
        Some(ttl @ Ttl::After(_)) => Verdict::Stays(format!("{used}; its ttl is {ttl}")),
    }
}

/// Of something whose workload is gone.
pub(super) fn of_leftover(metadata: &ObjectMeta, now: Timestamp) -> Verdict {
    let age = since(last_used(metadata), now);
    if age >= LEFT {
        return Verdict::Due(format!("its node is gone, and it is {} old", Ttl::After(age)));
    }
    Verdict::Stays(format!("its node is not there, but it is only {} old", Ttl::After(age)))
}

/// When the API server last recorded something of any daemon: a note, or options that were applied.
fn last_used(metadata: &ObjectMeta) -> Option<Timestamp> {
    let of_daemons = |manager: &str| [live::NOTES_MANAGER, apply::FIELD_MANAGER].contains(&manager);
    let fields = metadata.managed_fields.iter().flatten();
    let noted = fields.filter(|entry| entry.manager.as_deref().is_some_and(of_daemons));
    let noted = noted.filter_map(|entry| entry.time.as_ref());
    noted.chain(metadata.creation_timestamp.as_ref()).map(|time| time.0).max()
}

/// What nobody knows the time of was used just now.
fn since(last: Option<Timestamp>, now: Timestamp) -> Duration {
    let seconds = last.map_or(0, |last| now.as_second() - last.as_second());
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T17:00:00Z".parse().unwrap()
    }

    const ANNA: &str = "buildfleet.internal/user.a1";

    /// A workload that was made days ago, and of which these were recorded since.
    fn workload(recorded: &[(&str, &str)], mut annotations: serde_json::Value) -> ObjectMeta {
        annotations[ANNA] = json!("anna@laptop 2026-11-20T10:00:00Z x");
        let recorded = recorded.iter().map(|(manager, time)| json!({"manager": manager, "time": time}));
        serde_json::from_value(json!({
            "name": "kube0",
            "creationTimestamp": "2026-11-19T17:00:00Z",
            "managedFields": recorded.collect::<Vec<_>>(),
            "annotations": annotations,
        }))
        .unwrap()
    }

    fn ttl(text: &str) -> Option<Ttl> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn what_daemons_have_recorded_last_is_what_counts() {
        let notes = live::NOTES_MANAGER;
        for (recorded, given, due) in [
            (&[][..], ttl("48h"), true),
            (&[], ttl("48h0m1s"), false),
            (&[], None, false),
            (&[(notes, "2026-11-21T16:00:00Z")], ttl("1h"), true),
            (&[(notes, "2026-11-21T16:00:01Z")], ttl("1h"), false),
            (&[("buildfleet", "2026-11-21T16:50:00Z"), (notes, "2026-11-20T16:00:00Z")], ttl("1h"), false),
            // Controllers write all the time, and mean nothing by it.
            (&[("kube-controller-manager", "2026-11-21T17:00:00Z")], ttl("24h"), true),
            // An API server that was set back.
            (&[(notes, "2026-11-22T16:00:00Z")], ttl("0"), true),
            (&[(notes, "2026-11-22T16:00:00Z")], ttl("1h"), false),
        ] {
            let verdict = of_workload(&workload(recorded, json!({})), given, now());
            assert_eq!(matches!(verdict, Verdict::Due(_)), due, "{recorded:?}, {given:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_node_s_own_time_goes_before_that_of_all() {
        for (own, given, due) in [
            ("24h", None, true),
            ("72h", ttl("24h"), false),
            ("never", ttl("24h"), false),
            ("24h", ttl("96h"), true),
            ("soon", ttl("24h"), false),
        ] {
            let verdict = of_workload(&workload(&[], json!({TTL_ANNOTATION: own})), given, now());
            assert_eq!(matches!(verdict, Verdict::Due(_)), due, "{own}, {given:?}: {verdict:?}");
        }
    }

    #[test]
    fn what_was_left_on_purpose_stays() {
        let mut left = workload(&[], json!({}));
        left.annotations.get_or_insert_default().remove(ANNA);
        assert!(matches!(of_workload(&left, ttl("1h"), now()), Verdict::Stays(_)));
    }

    #[test]
    fn people_are_told_who_used_it_last() {
        let notes = json!({
            "buildfleet.internal/user.b2": "bob@ci 2026-11-20T16:00:00Z x",
        });
        let workload = workload(&[(live::NOTES_MANAGER, "2026-11-20T16:00:30Z")], notes);
        let told = "last used 24h59m30s ago by bob@ci; its ttl is 24h".to_owned();
        assert_eq!(of_workload(&workload, ttl("24h"), now()), Verdict::Due(told));
    }

    #[test]
    fn what_is_left_is_old_enough_not_to_be_on_its_way() {
        let of = |time: &str| of_leftover(&workload(&[("buildfleet", time)], json!({})), now());
        assert!(matches!(of("2026-11-21T16:00:00Z"), Verdict::Due(_)));
        assert!(matches!(of("2026-11-21T16:00:01Z"), Verdict::Stays(_)));
    }
}
