//! A pod ends in the middle of a build: the build begins anew on another pod, or its client is told at once which pod it
//! was and why.

use std::time::Instant;

use crate::support::builder::Builder;
use crate::support::call::Running;
use crate::support::clock::seconds;
use crate::support::contexts::BEGINS;
use crate::support::processes;
use crate::support::scene::Scene;

/// From the pod's end to the client's.
const TOLD: std::time::Duration = seconds(3);

fn each_client(scene: &Scene, builder: &Builder<'_>, mut end_of: impl FnMut(&str, Running)) {
    let slow = scene.contexts().slow(&format!("slow-{}", builder.name()), 40);
    for buildx in [false, true] {
        let pod = builder.has_ready(1).remove(0);
        let build = if buildx { builder.buildx(&slow, "") } else { builder.buildctl(&slow, "") };
        let build = build.start();
        build.says(BEGINS);
        end_of(&pod, build);
        // The next one gets another pod.
        builder.buildctl(&scene.contexts().hello(), "").succeeds();
    }
}

#[test]
fn a_deleted_pod_is_named_in_the_errors_of_its_builds() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder =
        scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace},retry=off --bootstrap"));
    each_client(&scene, &builder, |pod, build| {
        let deleted = Instant::now();
        // Less than the build still takes, which a pod lets come to its end in the time that it is given.
        // Returns when the API server has forgotten the pod, which is at its end or a little later.
        let delete = scene.namespace().kubectl("delete pod --grace-period=4").arg(pod).start();
        let failed = build.end().failed();
        let gone = delete.end().succeeded().ended;
        println!("{pod}: gone {:?} and told {:?} after the deletion", gone - deleted, failed.ended - deleted);
        assert!(failed.ended < gone + TOLD, "told {:?} after the pod's end: {failed}", failed.ended - gone);
        failed.says(pod).says("delet");
    });
}

#[test]
fn a_pod_that_is_deleted_by_force_is_named_too() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    for (name, transport) in [("by-exec", "exec"), ("by-pod-ip", "pod-ip")] {
        let opts = format!("namespace={namespace},transport={transport},retry=off");
        let builder = scene.create(name, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
        each_client(&scene, &builder, |pod, build| {
            let deleted = Instant::now();
            scene.namespace().kill(pod);
            let failed = build.end().failed();
            println!("{pod}, {transport}: told {:?} after the forced deletion", failed.ended - deleted);
            assert!(failed.ended < deleted + TOLD, "told {:?} after the deletion: {failed}", failed.ended - deleted);
            failed.says(pod).says("delet");
        });
        builder.remove();
    }
}

#[test]
fn a_buildkitd_that_is_killed_in_its_pod_is_named_with_its_signal() {
    let scene = Scene::kube();
    over_each_transport(&scene, "retry=off", |builder, transport| {
        each_client(&scene, builder, |pod, build| {
            let killed = Instant::now();
            kill_buildkitd(&scene, pod);
            let failed = build.end().failed();
            println!("{pod}, {transport}: told {:?} after the kill", failed.ended - killed);
            assert!(failed.ended < killed + TOLD, "told {:?} after the kill: {failed}", failed.ended - killed);
            failed.says(pod).says("137");
        });
    });
}

/// At the same time, because most of it is waiting for pods to come back.
pub(super) fn over_each_transport(scene: &Scene, opts: &str, test: impl Fn(&Builder<'_>, &str) + Sync) {
    let namespace = scene.namespace().name();
    std::thread::scope(|threads| {
        for (name, transport) in [("by-exec", "exec"), ("by-port-forward", "port-forward"), ("by-pod-ip", "pod-ip")] {
            let test = &test;
            threads.spawn(move || {
                let opts = format!("namespace={namespace},transport={transport},{opts}");
                let builder = scene.create(name, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
                test(&builder, transport);
                builder.remove();
            });
        }
    });
}

/// As the kernel does when memory runs out.
fn kill_buildkitd(scene: &Scene, pod: &str) {
    processes::kill_now(scene.namespace().buildkitd_of(pod));
}

#[test]
fn a_build_whose_pod_is_killed_begins_anew_on_another_one_and_says_so() {
    let scene = Scene::kube();
    over_each_transport(&scene, "replicas=2", |builder, transport| {
        for buildx in [false, true] {
            builder.has_ready(2);
            let slow = scene.contexts().slow(&format!("{transport}-{buildx}"), 6);
            let build = if buildx { builder.buildx(&slow, "") } else { builder.buildctl(&slow, "") };
            let build = build.start();
            build.says(BEGINS);
            let pod = builder.busy_pods().remove(0);
            kill_buildkitd(&scene, &pod);
            build.end().succeeded().says("starting again on another pod").says(&pod).says("137").says("building on");
        }
    });
}
