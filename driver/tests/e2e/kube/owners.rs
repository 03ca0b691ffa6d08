//! One builder that two people use: each has a daemon of their own, and neither takes anything from the other.

use crate::support::builder::Builder;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

fn replicas(scene: &Scene) -> String {
    let deployment = scene.namespace().kubectl("get deployment kube0 --output jsonpath={.spec.replicas}");
    deployment.succeeds().word().to_owned()
}

/// `create` of builder kube in the namespace of `team`.
fn create(scene: &Scene, team: &Scene, opts: &str, words: &str) -> crate::support::call::Call {
    let namespace = team.namespace().name();
    let line = format!("create --name kube --driver kubernetes --driver-opt namespace={namespace}{opts} {words}");
    scene.buildfleet(&line)
}

#[test]
fn two_daemons_share_a_builder_and_the_last_one_takes_it_away() {
    let anna = Scene::kube();
    let bob = Scene::beside(&anna);
    create(&anna, &anna, ",replicas=1", "--bootstrap").succeeds();
    let hers: Builder<'_> = anna.builder("kube");
    let hello = anna.contexts().hello();
    hers.buildctl(&hello, "").succeeds().says("machine: x86_64");

    // Other options are refused with the difference, the owner and the way out.
    let refused = create(&bob, &anna, ",replicas=2", "").fails();
    refused
        .says("deployment kube0 has other options, and is used by")
        .says("made it")
        .says("-  replicas: 1\n")
        .says("--force");
    bob.has_no_builder();
    // The same ones join, and build in the same pod.
    create(&bob, &anna, ",replicas=1", "--bootstrap").succeeds().says("is shared");
    let his = bob.builder("kube");
    let pods = anna.namespace().pods();
    assert_eq!(pods.len(), 1);
    his.buildctl(&bob.contexts().hello(), "").succeeds();
    assert_eq!(anna.namespace().pods(), pods);
    let seen = anna.buildfleet("inspect kube").succeeds();
    seen.says("Made by:").says("Used by:");

    // One laptop's rm takes nothing from the other.
    anna.buildfleet("rm kube").succeeds().says("its pods stay, because others use them");
    anna.has_no_builder();
    his.buildctl(&bob.contexts().hello(), "").succeeds().says("CACHED");
    assert_eq!(anna.namespace().pods(), pods);
    bob.buildfleet("rm kube").succeeds();
    anna.namespace().empties();
}

#[test]
fn two_daemons_do_not_fight_over_options_and_force_decides() {
    let anna = Scene::kube();
    let bob = Scene::beside(&anna);
    create(&anna, &anna, "", "--bootstrap").succeeds();
    create(&bob, &anna, "", "--bootstrap").succeeds();
    let (hers, his) = (anna.builder("kube"), bob.builder("kube"));
    // Anna changes it for both, and is told so.
    let changed = create(&anna, &anna, ",replicas=2,limits.memory=2Gi", "--node kube0 --bootstrap").succeeds();
    changed.says("are also those of").says("-  replicas: 1\n").says("+  replicas: 2\n").says("memory: 2Gi");
    hers.has_ready(2);
    // Bob's daemon tells it, and leaves it so whatever he does but to say otherwise.
    wait_for("the news", seconds(10), || {
        let drift = his.node(0)["Drift"].as_str().map(str::to_owned);
        drift.filter(|drift| drift.contains("has other options, given by one of root@") && drift.contains("2Gi"))
    });
    bob.buildfleet("inspect kube --bootstrap").succeeds().says("of 2 ready");
    bob.buildfleet("stop kube").succeeds();
    assert_eq!(replicas(&anna), "0");
    his.buildctl(&bob.contexts().hello(), "").succeeds().says("machine: x86_64");
    assert_eq!(replicas(&anna), "2");
    let memory = "jsonpath={.spec.template.spec.containers[0].resources.limits.memory}";
    let limit = || anna.namespace().kubectl("get deployment kube0 --output").arg(memory).succeeds().word().to_owned();
    assert_eq!(limit(), "2Gi");
    create(&bob, &anna, ",limits.memory=1Gi", "--node kube0 --bootstrap").succeeds().says("memory: 1Gi");
    assert_eq!((replicas(&anna), limit()), ("1".to_owned(), "1Gi".to_owned()));
    hers.buildctl(&anna.contexts().hello(), "").succeeds();
    assert_eq!((replicas(&anna), limit()), ("1".to_owned(), "1Gi".to_owned()));

    anna.buildfleet("rm kube --force").succeeds();
    anna.namespace().empties();
    bob.buildfleet("rm kube").succeeds();
}
