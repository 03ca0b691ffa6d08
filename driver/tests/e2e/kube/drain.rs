//! A pod is told to go in the middle of builds: they end well, it goes after them, and new builds go elsewhere.

use std::time::Instant;

use crate::support::builder::Builder;
use crate::support::call::Running;
use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::scene::Scene;

/// From the end of a pod's last build to its own: three looks, a second apart, and `buildkitd`'s end.
const GONE: std::time::Duration = seconds(15);

/// Builds of both clients, which begin before `order` is given to the pod and end after it.
pub(crate) fn builds_outlive(scene: &Scene, builder: &Builder<'_>, order: impl FnOnce(&str)) {
    // One project, so that one pod has both.
    let slow = scene.contexts().slow("slow", 20);
    let mut builds = [builder.buildctl(&slow, "").start(), builder.buildx(&slow, "").start()];
    for build in &builds {
        build.says(BEGINS);
    }
    let busy = builder.busy_pods();
    let [pod] = &busy[..] else { panic!("builds run in {busy:?}") };
    let ordered = Instant::now();
    order(pod);
    let is_going = || !scene.namespace().pod(pod)["metadata"]["deletionTimestamp"].is_null();
    wait_for("the pod's order to go", seconds(15), || is_going().then_some(()));
    assert!(builds.iter_mut().all(Running::runs), "a build ended before the pod was told to go");
    for build in builds {
        let built = build.end().succeeded();
        println!("{pod}: built {:?} after the order", built.ended - ordered);
    }
    wait_for("the pod's end", GONE, || (!scene.namespace().pods().contains(pod)).then_some(()));
    println!("{pod}: gone {:?} after the order", ordered.elapsed());
}

pub(crate) fn kube<'a>(scene: &'a Scene, opts: &str) -> Builder<'a> {
    let namespace = scene.namespace().name();
    scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace}{opts} --bootstrap"))
}

#[test]
fn builds_outlive_the_deletion_of_their_pod_privileged_and_rootless() {
    for opts in ["", ",rootless=true"] {
        let scene = Scene::kube();
        let builder = kube(&scene, opts);
        builds_outlive(&scene, &builder, |pod| {
            scene.namespace().kubectl("delete pod --wait=false").arg(pod).succeeds();
            // The next one does not wait for the old pod.
            let built = builder.buildctl(&scene.contexts().hello(), "").succeeds().says("machine: x86_64");
            assert!(built.took < seconds(15), "{built}");
        });
        builder.has_ready(1);
    }
}

#[test]
fn builds_outlive_a_stop() {
    let scene = Scene::kube();
    let builder = kube(&scene, ",replicas=2");
    builds_outlive(&scene, &builder, |_| builder.stop());
    assert_eq!(builder.status(), "stopped");
    assert_eq!(scene.namespace().pods(), Vec::<String>::new());
}

#[test]
fn builds_outlive_a_node_with_fewer_replicas() {
    let scene = Scene::kube();
    let builder = kube(&scene, ",replicas=2");
    builder.has_ready(2);
    builds_outlive(&scene, &builder, |pod| {
        // Kubernetes would choose the idle one, or any; and before what is said here, one that it has not found ready.
        scene.namespace().kubectl("wait --for=condition=Ready pods --all --timeout=30s").succeeds();
        let first = "controller.kubernetes.io/pod-deletion-cost=-1";
        scene.namespace().kubectl("annotate pod").arg(pod).arg(first).succeeds();
        let namespace = scene.namespace().name();
        let opts = format!("--node kube0 --driver-opt namespace={namespace},replicas=1 --bootstrap");
        scene.create("kube", &opts);
    });
    builder.has_ready(1);
}

#[test]
fn builds_outlive_a_rollout() {
    let scene = Scene::kube();
    let builder = kube(&scene, "");
    builds_outlive(&scene, &builder, |pod| {
        scene.namespace().kubectl("rollout restart deployment kube0").succeeds();
        // At no time is there no pod for a new build.
        wait_for("the new pod", seconds(15), || {
            let ready = builder.ready_pods();
            assert!(!ready.is_empty(), "{:#?}", builder.pods());
            ready.iter().any(|ready| ready != pod).then_some(())
        });
        let built = builder.buildctl(&scene.contexts().hello(), "").succeeds().says("machine: x86_64");
        assert!(built.took < seconds(10), "{built}");
    });
    builder.has_ready(1);
}
