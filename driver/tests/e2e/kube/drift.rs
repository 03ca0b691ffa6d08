//! A workload that somebody edits or deletes: noticed, told by commands and builds, and repaired.

use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

#[test]
fn what_somebody_changes_is_told_and_repaired_by_the_next_bootstrap() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap"));
    let patch = r#"{"spec":{"template":{"spec":{"priorityClassName":"system-node-critical","terminationGracePeriodSeconds":7}}}}"#;
    scene.namespace().kubectl("patch deployment kube0 --patch").arg(patch).succeeds();
    let told = wait_for("the drift", seconds(10), || {
        let drift = builder.node(0)["Drift"].as_str().map(str::to_owned);
        drift.filter(|drift| drift.contains("changed by kubectl-patch"))
    });
    assert!(told.contains("spec.template.spec.terminationGracePeriodSeconds 3"), "{told}");
    scene.buildfleet("inspect kube").succeeds().says("Drift:");
    scene.buildfleet("ls").succeeds().says("was changed by kubectl-patch");
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("was changed by kubectl-patch");
    builder.buildx(&hello, "").succeeds().says("was changed by kubectl-patch");

    builder.bootstrap();
    wait_for("the repair", seconds(10), || builder.node(0)["Drift"].is_null().then_some(()));
    let path = "jsonpath={.spec.template.spec.terminationGracePeriodSeconds}";
    let grace = scene.namespace().kubectl("get deployment kube0 --output").arg(path).succeeds();
    assert_ne!(grace.word(), "7");
    builder.buildctl(&hello, "").succeeds().says_nothing_of("was changed by");

    scene.namespace().kubectl("delete deployment kube0").succeeds();
    wait_for("the loss", seconds(10), || {
        let drift = builder.node(0)["Drift"].as_str().map(str::to_owned);
        drift.filter(|drift| drift.contains("deployment kube0 was deleted by somebody else"))
    });
    // Its pods go a moment later, and build until then.
    wait_for("the end of its pods", seconds(60), || scene.namespace().pods().is_empty().then_some(()));
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    wait_for("the repair", seconds(10), || builder.node(0)["Drift"].is_null().then_some(()));

    // Also when nobody looks.
    scene.kill_daemon();
    scene.namespace().kubectl("delete deployment kube0").succeeds();
    scene.buildfleet("ls").succeeds().says("its workload was deleted by somebody else");
    builder.bootstrap().says_nothing_of("Drift:");
    builder.remove();
    scene.namespace().empties();
}

#[test]
fn a_stop_and_a_start_are_no_drift_and_scaling_by_hand_is() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap"));
    builder.stop();
    builder.bootstrap();
    scene.namespace().kubectl("rollout restart deployment kube0").succeeds();
    std::thread::sleep(seconds(2));
    assert!(builder.node(0)["Drift"].is_null(), "{}", builder.node(0));
    scene.namespace().kubectl("scale deployment kube0 --replicas 3").succeeds();
    wait_for("the drift", seconds(10), || {
        let drift = builder.node(0)["Drift"].as_str().map(str::to_owned);
        drift.filter(|drift| drift.contains("spec.replicas 1 -> 3"))
    });
    builder.bootstrap();
    wait_for("the repair", seconds(10), || builder.node(0)["Drift"].is_null().then_some(()));
    assert_eq!(builder.has_ready(1).len(), 1);
}
