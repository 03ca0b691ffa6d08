//! What the pods of a cluster keep, asked for at one socket.

use crate::records::{buildctl, buildx, ids, is_found, is_removed, two_builds};
use crate::support::builder::Builder;
use crate::support::call::Outcome;
use crate::support::scene::Scene;

/// What each pod's own `buildkitd` says.
fn each(scene: &Scene, builder: &Builder<'_>, words: &str) -> Vec<Outcome> {
    let ask = |pod: String| scene.namespace().kubectl("exec").arg(pod).words("-- buildctl").words(words).succeeds();
    builder.ready_pods().into_iter().map(ask).collect()
}

#[test]
fn records_are_found_on_each_pod_also_by_the_next_daemon_after_a_kill() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("--driver kubernetes --driver-opt namespace={namespace},replicas=2 --bootstrap");
    let builder = scene.create("two", &opts);
    builder.has_ready(2);
    let builds = two_builds(&scene, &builder);
    for listed in each(&scene, &builder, "debug histories") {
        let here = builds.iter().filter(|(_, build)| listed.stdout.contains(build.as_str())).count();
        assert_eq!(here, 1, "the builds are not spread: {listed}");
    }
    is_found(&scene, &builder, &builds);

    scene.kill_daemon();
    // The next command starts another one, which has to find the pods first.
    assert_eq!(scene.builders().len(), 1);
    is_found(&scene, &builder, &builds);
    is_removed(&scene, &builder, &builds);
}

#[test]
fn usage_and_prune_are_about_all_pods() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("--driver kubernetes --driver-opt namespace={namespace},replicas=2 --bootstrap");
    let builder = scene.create("two", &opts);
    builder.has_ready(2);
    two_builds(&scene, &builder);
    let of_pods: Vec<Vec<String>> = each(&scene, &builder, "du").iter().map(ids).collect();
    assert!(of_pods.len() == 2 && of_pods.iter().all(|ids| ids.len() > 2), "{of_pods:?}");
    let mut all: Vec<String> = of_pods.concat();
    all.sort();
    assert_eq!(ids(&buildctl(&scene, &builder, "du")), all);
    assert_eq!(ids(&buildx(&scene, &builder, "du")), all);

    let pruned = ids(&buildx(&scene, &builder, "prune --all --force"));
    assert_eq!(pruned, all);
    for left in each(&scene, &builder, "du") {
        assert_eq!(ids(&left), [""; 0], "{left}");
    }
    assert_eq!(ids(&buildctl(&scene, &builder, "du")), [""; 0]);
}
