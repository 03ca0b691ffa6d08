//! Builders of the cluster from their beginning to their end, over the daemon's death.

use crate::support::clock::seconds;
use crate::support::scene::Scene;

#[test]
fn looking_at_a_builder_starts_no_pod_and_a_build_does() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("idle", &format!("--driver kubernetes --driver-opt namespace={namespace}"));
    scene.buildfleet("ls").succeeds().says("idle0");
    builder.inspect();
    scene.buildx("ls").succeeds().says("idle0");
    scene.buildx("inspect idle").succeeds().says("idle0");
    scene.buildctl("--addr").arg(builder.address()).words("debug workers").succeeds().says("linux/amd64");
    assert_eq!(scene.namespace().objects(), Vec::<String>::new());

    let hello = scene.contexts().hello();
    builder.buildx(&hello, "").succeeds().says("machine: x86_64").faster_than(seconds(20));
    assert_eq!(builder.ready_pods().len(), 1);

    builder.stop();
    assert_eq!(builder.status(), "stopped");
    let deployment = scene.namespace().kubectl("get deployment idle0 --output jsonpath={.spec.replicas}").succeeds();
    assert_eq!(deployment.word(), "0");
    scene.buildx("ls").succeeds().says("idle0");
    let deployment = scene.namespace().kubectl("get deployment idle0 --output jsonpath={.spec.replicas}").succeeds();
    assert_eq!(deployment.word(), "0");

    builder.buildctl(&hello, "").succeeds().says("machine: x86_64").faster_than(seconds(20));
    assert_eq!(builder.status(), "running");
}

#[test]
fn a_restarted_daemon_finds_its_builders_and_their_pods() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("namespace={namespace},replicas=2");
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    let hello = scene.contexts().hello();
    builder.buildx(&hello, "").succeeds().says("machine: x86_64");
    let pods = scene.namespace().pods();

    scene.kill_daemon();
    // The pods do not depend on the daemon.
    builder.buildctl(&hello, "").succeeds().says("CACHED").says_nothing_of("machine: x86_64");
    builder.buildx(&hello, "").succeeds().says("CACHED");
    assert_eq!(scene.namespace().pods(), pods);
    assert_eq!(builder.has_ready(2).len(), 2);

    // In order, the same.
    scene.end_daemon();
    builder.buildctl(&hello, "").succeeds().says("CACHED");
    assert_eq!(scene.namespace().pods(), pods);

    builder.remove();
    scene.namespace().empties();
}

#[test]
fn logs_are_those_of_the_pods() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap"));
    let pod = builder.ready_pods().remove(0);
    scene.buildfleet("logs kube0").succeeds().says("running server on").says(&pod);
    scene.buildfleet("logs kube1").fails().says("kube1");
}
