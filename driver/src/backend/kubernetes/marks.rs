//! What buildfleet notes on a workload: who made it, who uses it, and which options it has. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::backend::{Installation, Sharing};
use crate::fnv;

/// Which options were applied last, as [`fingerprint`].
const APPLIED: &str = "buildfleet.internal/applied";

/// How many pods they ask for: a workload that was stopped no longer says so.
const REPLICAS: &str = "buildfleet.internal/replicas";

/// `WHO ID`: who made it.
const OWNER: &str = "buildfleet.internal/owner";

/// Followed by an installation's id; `WHO TIME FINGERPRINT`: who uses it, since or again when, and the options that they know of.
const USER: &str = "buildfleet.internal/user.";

/// A mark is renewed when it is so old, and else when its options change. `gc` takes no builder that was used within the half
/// hour; one request in ten minutes is none that an API server notices.
const STALE_SECONDS: i64 = 10 * 60;

/// What a workload says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    owner: Option<Installation>,
    /// By installation.
    users: BTreeMap<String, Use>,
    pub(super) applied: Option<String>,
    pub(super) replicas: Option<u32>,
    /// By its label; not so what somebody else made under this name.
    pub(super) is_ours: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Use {
    who: String,
    at: Timestamp,
    options: String,
}

impl Marks {
    pub(super) fn of(metadata: &ObjectMeta) -> Self {
        let annotations = metadata.annotations.iter().flatten();
        let mut marks = Self { is_ours: is_ours(metadata), ..Self::default() };
        for (name, value) in annotations {
            if let Some(id) = name.strip_prefix(USER) {
                marks.users.extend(read_use(value).map(|found| (id.to_owned(), found)));
            } else if name == OWNER {
                marks.owner =
                    value.rsplit_once(' ').map(|(who, id)| Installation { id: id.to_owned(), who: who.to_owned() });
            } else if name == APPLIED {
                marks.applied = Some(value.clone());
            } else if name == REPLICAS {
                marks.replicas = value.parse().ok();
            }
        }
        marks
    }

    /// The options that this installation applied last, or agreed to.
    fn agreed(&self, us: &Installation) -> Option<&str> {
        self.users.get(&us.id).map(|known| known.options.as_str())
    }

    /// Whether we use it already.
    pub(super) fn knows(&self, us: &Installation) -> bool {
        self.users.contains_key(&us.id)
    }

    /// Nobody says that they use it: they have let go of it, and it was to stay.
    pub(super) fn is_let_go(&self) -> bool {
        self.users.is_empty()
    }

    /// Those who use it beside us, for people.
    pub(super) fn others(&self, us: &Installation) -> Vec<String> {
        let others = self.users.iter().filter(|(id, _)| **id != us.id);
        others.map(|(_, known)| format!("{} (since {})", known.who, known.at)).collect()
    }

    /// Who made it and who uses it; `None` when nobody is noted.
    pub(super) fn sharing(&self, us: &Installation) -> Option<Sharing> {
        let owner = self.owner.as_ref().map(|owner| owner.who.clone());
        let sharing = Sharing { owner: owner.unwrap_or_default(), others: self.others(us) };
        (!sharing.owner.is_empty() || !sharing.others.is_empty()).then_some(sharing)
    }

    /// What an order with the options `wanted` does to a workload that is there.
    pub(super) fn order(&self, wanted: &str, us: &Installation) -> Order {
        let Some(applied) = &self.applied else {
            let is_known = self.is_ours || self.agreed(us).is_some();
            return if is_known { Order::Apply } else { Order::Foreign };
        };
        match self.agreed(us) {
            _ if applied == wanted => Order::Apply,
            Some(agreed) if agreed == applied => Order::Apply,
            Some(_) => Order::Scale,
            None if self.others(us).is_empty() => Order::Apply,
            None => Order::Refuse,
        }
    }

    /// The patch that notes us as a user who knows of `options`; `None` when that is noted.
    pub(super) fn joining(&self, us: &Installation, options: &str, now: Timestamp) -> Option<Value> {
        let own = self.own(us, options, now);
        own.map(|(name, value)| json!({"metadata": {"annotations": {name: value}}}))
    }

    /// The same of us who use it and go on to do so; `None` when that is noted, or when we are none of its users.
    pub(super) fn renewing(&self, us: &Installation, now: Timestamp) -> Option<Value> {
        self.joining(us, self.agreed(us)?, now)
    }

    /// Who used it last by their own clocks, for people.
    pub(super) fn last_user(&self) -> Option<&str> {
        self.users.values().max_by_key(|known| known.at).map(|known| known.who.as_str())
    }

    /// The same after the options were applied, which ask for so many pods. What nobody owns is ours then.
    pub(super) fn applying(&self, us: &Installation, options: &str, replicas: u32, now: Timestamp) -> Option<Value> {
        let text = |name: &str, value: String| (name.to_owned(), json!(value));
        let owner = self.owner.is_none().then(|| text(OWNER, format!("{} {}", us.who, us.id)));
        let applied = (self.applied.as_deref() != Some(options)).then(|| text(APPLIED, options.to_owned()));
        let replicas = (self.replicas != Some(replicas)).then(|| text(REPLICAS, replicas.to_string()));
        let notes = [owner, applied, replicas, self.own(us, options, now)];
        let annotations: serde_json::Map<String, Value> = notes.into_iter().flatten().collect();
        (!annotations.is_empty()).then(|| json!({"metadata": {"annotations": annotations}}))
    }

    fn own(&self, us: &Installation, options: &str, now: Timestamp) -> Option<(String, Value)> {
        let fresh = self.users.get(&us.id).is_some_and(|known| {
            known.options == options && known.who == us.who && now.as_second() - known.at.as_second() < STALE_SECONDS
        });
        // Whole seconds are enough for people.
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        (!fresh).then(|| (format!("{USER}{}", us.id), json!(format!("{} {at} {options}", us.who))))
    }

    /// All notes of `from`, for the workload that takes its place.
    pub(super) fn carried(from: &ObjectMeta) -> Option<Value> {
        let is_note = |name: &str| name == OWNER || name.starts_with(USER);
        let notes = from.annotations.iter().flatten().filter(|(name, _)| is_note(name));
        let notes: serde_json::Map<String, Value> = notes.map(|(name, text)| (name.clone(), json!(text))).collect();
        (!notes.is_empty()).then(|| json!({"metadata": {"annotations": notes}}))
    }

    /// The patch that takes our mark away.
    pub(super) fn forgetting(us: &Installation) -> Value {
        json!({"metadata": {"annotations": {format!("{USER}{}", us.id): null}}})
    }
}

/// What becomes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The objects become as the order has them.
    Apply,
    /// Somebody has given the node other options since: those stay, and only the number of pods changes.
    Scale,
    /// Others use it with other options than ours, which they never heard of.
    Refuse,
    /// Somebody else's workload has this name.
    Foreign,
}

/// Whether an annotation is one of these notes.
pub(super) fn is_note(name: &str) -> bool {
    [APPLIED, REPLICAS, OWNER].contains(&name) || name.starts_with(USER)
}

fn is_ours(metadata: &ObjectMeta) -> bool {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("app.kubernetes.io/managed-by"))
        .is_some_and(|by| by == "buildfleet")
}

fn read_use(text: &str) -> Option<Use> {
    let (rest, options) = text.rsplit_once(' ')?;
    let (who, at) = rest.rsplit_once(' ')?;
    Some(Use { who: who.to_owned(), at: at.parse().ok()?, options: options.to_owned() })
}

/// Tells options apart.
pub(super) fn fingerprint(text: &str) -> String {
    format!("{:016x}", fnv::hash(text.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anna() -> Installation {
        Installation { id: "a1".to_owned(), who: "anna@laptop".to_owned() }
    }

    fn bob() -> Installation {
        Installation { id: "b2".to_owned(), who: "bob smith@ci".to_owned() }
    }

    fn now() -> Timestamp {
        "2026-11-21T17:00:00Z".parse().unwrap()
    }

    fn metadata(applied: Option<&str>, marks: &[(&Installation, &str)]) -> ObjectMeta {
        let labels = [("app.kubernetes.io/managed-by".to_owned(), "buildfleet".to_owned())];
        let mut object = ObjectMeta { labels: Some(labels.into()), ..ObjectMeta::default() };
        for (who, options) in marks {
            note(&mut object, who, options);
        }
        let annotations = object.annotations.get_or_insert_default();
        annotations.remove(APPLIED);
        annotations.extend(applied.map(|applied| (APPLIED.to_owned(), applied.to_owned())));
        object
    }

    fn note(object: &mut ObjectMeta, who: &Installation, options: &str) {
        let patch = Marks::of(object).applying(who, options, 2, now()).expect("something to note");
        for (name, value) in patch["metadata"]["annotations"].as_object().unwrap() {
            object.annotations.get_or_insert_default().insert(name.clone(), value.as_str().unwrap().to_owned());
        }
    }

    #[test]
    fn who_made_it_and_who_uses_it_is_read_back() {
        let marks = Marks::of(&metadata(Some("x"), &[(&bob(), "x"), (&anna(), "x")]));
        let sharing = marks.sharing(&anna()).unwrap();
        assert_eq!(sharing.owner, "bob smith@ci");
        assert_eq!(sharing.others, ["bob smith@ci (since 2026-11-21T17:00:00Z)"]);
        assert_eq!(marks.others(&bob()), ["anna@laptop (since 2026-11-21T17:00:00Z)"]);
        assert_eq!(Marks::default().sharing(&anna()), None);
    }

    #[test]
    fn a_mark_is_renewed_when_it_is_old_or_its_options_are() {
        let marks = Marks::of(&metadata(Some("x"), &[(&anna(), "x")]));
        assert_eq!((marks.applying(&anna(), "x", 2, now()), marks.joining(&anna(), "x", now())), (None, None));
        let later = Timestamp::from_second(now().as_second() + STALE_SECONDS).unwrap();
        assert_eq!(marks.renewing(&anna(), now()), None);
        assert_eq!(marks.renewing(&anna(), later), marks.joining(&anna(), "x", later));
        assert_eq!(marks.renewing(&bob(), later), None, "who does not use it does not begin to by this");
        for renewed in [marks.joining(&anna(), "x", later), marks.joining(&anna(), "y", now())] {
            let renewed = renewed.unwrap();
            let names: Vec<&String> = renewed["metadata"]["annotations"].as_object().unwrap().keys().collect();
            assert_eq!(names, ["buildfleet.internal/user.a1"]);
        }
    }

    #[test]
    fn the_last_explicit_command_decides_and_nobody_reverts_it() {
        let (anna, bob) = (anna(), bob());
        for (what, applied, marks, wanted, order) in [
            ("the same options", Some("x"), &[(&anna, "x"), (&bob, "x")][..], "x", Order::Apply),
            ("our own new options", Some("x"), &[(&anna, "x"), (&bob, "x")], "y", Order::Apply),
            ("bob's new options, ours as before", Some("y"), &[(&anna, "x"), (&bob, "y")], "x", Order::Scale),
            ("a version of ours that makes other objects", Some("x"), &[(&anna, "x")], "y", Order::Apply),
            ("bob's, whom we never joined", Some("x"), &[(&bob, "x")], "y", Order::Refuse),
            ("bob's, with the same options", Some("x"), &[(&bob, "x")], "x", Order::Apply),
            ("nobody's any more", Some("x"), &[], "y", Order::Apply),
            ("of an earlier version", None, &[], "x", Order::Apply),
        ] {
            assert_eq!(Marks::of(&metadata(applied, marks)).order(wanted, &anna), order, "{what}");
        }
        assert_eq!(Marks::of(&ObjectMeta::default()).order("x", &anna), Order::Foreign);
    }

    #[test]
    fn texts_are_told_apart_in_the_same_way_for_ever() {
        assert_eq!(fingerprint(""), "cbf29ce484222325");
        assert_eq!(fingerprint("a"), "af63dc4c8601ec8c");
        assert_ne!(fingerprint("replicas: 1"), fingerprint("replicas: 2"));
    }
}
