//! What the watches may say, and the snapshot that follows.

use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::watcher::Event as Watched;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, status: Value) -> KubePod {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"nodeName": "n1", "containers": []}});
    pod["status"] = status;
    serde_json::from_value(pod).unwrap()
}

fn main(state: Value, restarts: i32) -> Value {
    let mut container =
        json!({"name": "buildkitd", "image": "", "imageID": "", "ready": true, "restartCount": restarts});
    container["state"] = state;
    json!({"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [container]})
}

fn running(name: &str) -> KubePod {
    pod(name, main(json!({"running": {}}), 0))
}

fn crashed(name: &str, restarts: i32) -> KubePod {
    pod(name, main(json!({"terminated": {"exitCode": 1, "reason": "Error"}}), restarts))
}

fn event(name: &str, about: &str, time: &str, message: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": about}, "reason": "FailedMount",
        "message": message, "firstTimestamp": time,
    }))
    .unwrap()
}

fn list_pods(view: &mut View, pods: impl IntoIterator<Item = KubePod>) {
    view.pod(Watched::Init);
    for pod in pods {
        view.pod(Watched::InitApply(pod));
    }
    view.pod(Watched::InitDone);
}

/// A view that has seen that nothing is there.
fn empty() -> View {
    let mut view = View::default();
    view.workload(Watched::Init);
    view.workload(Watched::InitDone);
    list_pods(&mut view, []);
    view
}

fn names(view: &View) -> Vec<String> {
    view.snapshot().pods.iter().map(|pod| pod.name.to_string()).collect()
}

fn notes(view: &View) -> Vec<String> {
    view.snapshot().notes.into_iter().map(|note| note.text).collect()
}

#[test]
fn nothing_is_known_until_both_lists_are_whole() {
    let mut view = View::default();
    assert!(!view.snapshot().known);
    list_pods(&mut view, [running("b"), running("a")]);
    view.workload(Watched::Init);
    assert!(!view.snapshot().known);
    assert_eq!(view.has_pod(&"a".parse().unwrap()), Some(true));
    view.workload(Watched::InitDone);
    assert!(view.snapshot().known && !view.snapshot().applied);
    assert_eq!(names(&view), ["a", "b"]);
    view.workload(Watched::Apply(Workload::Deployment(Deployment::default())));
    assert!(view.snapshot().applied);
    view.workload(Watched::Delete(Workload::Deployment(Deployment::default())));
    assert!(!view.snapshot().applied);
}

#[test]
fn a_pod_leaves_the_snapshot_with_its_reason() {
    let mut view = empty();
    view.pod(Watched::Apply(running("a")));
    view.pod(Watched::Apply(running("b")));
    assert_eq!(view.address(&"a".parse().unwrap()), Some([10, 0, 0, 7].into()));
    // The deletion carries a state that was not seen before.
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    view.pod(Watched::Delete(pod("a", evicted)));
    assert_eq!(names(&view), ["b"]);
    let end = view.snapshot().ended.remove(&"a".parse().unwrap());
    assert_eq!(end.unwrap().to_string(), "Evicted: low on memory");
    // One that vanished while nobody looked.
    list_pods(&mut view, [running("c")]);
    assert_eq!(names(&view), ["c"]);
    assert_eq!(view.snapshot().ended[&"b".parse::<PodName>().unwrap()].reason, "deleted");
    assert_eq!(view.has_pod(&"b".parse().unwrap()), Some(false));
}

#[test]
fn a_list_that_is_under_way_takes_no_pod_away() {
    let mut view = empty();
    view.pod(Watched::Apply(running("a")));
    view.pod(Watched::Init);
    view.pod(Watched::InitApply(running("b")));
    assert_eq!(names(&view), ["a"]);
    view.pod(Watched::InitDone);
    assert_eq!(names(&view), ["b"]);
}

#[test]
fn the_oldest_ends_are_forgotten() {
    let mut view = empty();
    for number in 0..ENDED_MAX + 3 {
        view.pod(Watched::Apply(running(&format!("p{number}"))));
        view.pod(Watched::Delete(running(&format!("p{number}"))));
    }
    let ended = view.snapshot().ended;
    assert_eq!(ended.len(), ENDED_MAX);
    assert!(!ended.contains_key(&"p2".parse::<PodName>().unwrap()));
    assert!(ended.contains_key(&"p3".parse::<PodName>().unwrap()));
}

#[test]
fn a_watch_that_fails_is_noted_and_in_the_end_not_trusted() {
    let mut view = empty();
    view.pod(Watched::Apply(running("a")));
    view.pods_failed("once".into());
    assert!(view.snapshot().known && notes(&view).is_empty(), "a watch runs out now and then");
    view.pods_failed("twice".into());
    assert!(view.snapshot().known);
    assert_eq!(notes(&view), ["twice"]);
    view.pods_failed("again".into());
    assert!(!view.snapshot().known);
    assert_eq!(names(&view), ["a"], "what was seen stays");
    assert_eq!(view.has_pod(&"a".parse().unwrap()), None);
    list_pods(&mut view, [running("a")]);
    assert!(view.snapshot().known && notes(&view).is_empty());
    let mut unseen = View::default();
    unseen.lead_failed("refused".into());
    assert_eq!(notes(&unseen), ["refused"]);
    unseen.disconnected(Some("no kubeconfig".into()));
    assert_eq!(notes(&unseen), ["no kubeconfig", "refused"]);
}

#[test]
fn events_are_wanted_while_a_pod_is_on_its_way() {
    let mut view = empty();
    assert!(!view.wants_events());
    view.pod(Watched::Apply(pod("a", json!({"phase": "Pending"}))));
    assert!(view.wants_events());
    view.pod(Watched::Apply(running("a")));
    assert!(!view.wants_events());
    view.pod(Watched::Apply(pod("b", json!({"phase": "Pending"}))));
    view.events_refused("not allowed".into());
    assert!(!view.wants_events());
    assert_eq!(notes(&view), ["not allowed"]);
}

#[test]
fn events_are_told_in_their_order_and_only_to_their_pod() {
    let mut view = empty();
    view.pod(Watched::Apply(pod("a", json!({"phase": "Pending"}))));
    view.event(Watched::Apply(event("e1", "a", "2026-01-01T00:00:09Z", "second")));
    view.event(Watched::Apply(event("e2", "a", "2026-01-01T00:00:01Z", "first")));
    view.event(Watched::Apply(event("e3", "other", "2026-01-01T00:00:01Z", "not ours")));
    let story: Vec<_> = view.snapshot().pods[0].story.iter().map(|line| line.text.clone()).collect();
    assert_eq!(story, ["scheduled on n1", "cannot mount a volume: first", "cannot mount a volume: second"]);
    assert_eq!(view.events.objects.len(), 2);
}

#[test]
fn the_output_of_every_crash_is_read_once() {
    let mut view = empty();
    view.pod(Watched::Apply(crashed("a", 0)));
    let wanted = view.crashes_to_read();
    assert_eq!(wanted.len(), 1);
    assert!(view.crashes_to_read().is_empty());
    let (name, crash) = wanted.into_iter().next().unwrap();
    view.crash_output(name, crash, "no space left\n");
    let detail = |view: &View| view.snapshot().pods[0].last_end.clone().unwrap().detail;
    assert_eq!(detail(&view).as_deref(), Some("no space left"));
    // The next crash has other last words.
    view.pod(Watched::Apply(crashed("a", 1)));
    assert_eq!(detail(&view), None);
    assert_eq!(view.crashes_to_read().len(), 1);
}
