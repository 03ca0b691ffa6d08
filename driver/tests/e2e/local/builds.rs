//! What a build on this machine can do.

use crate::builds;
use crate::support::scene::Scene;

#[test]
fn both_clients_build_for_two_platforms_with_every_output_and_secrets() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    // The other client's build is the same one: it finds all in the cache.
    builder.buildx(&hello, "").succeeds().says("CACHED");

    // The node reports arm64 because this machine's kernel runs such programs by qemu.
    let platforms = builder.node(0)["Platforms"].to_string();
    assert!(platforms.contains("linux/amd64") && platforms.contains("linux/arm64"), "{platforms}");
    builds::two_platforms_by_emulation(&scene, &builder);
    builds::every_output_arrives(&scene, &builder);
    builds::secrets_reach_the_step_alone(&scene, &builder);
}

#[test]
fn two_replicas_are_two_processes_and_a_project_stays_with_one() {
    let scene = Scene::local();
    let builder = scene.create("pair", "--driver local --driver-opt replicas=2 --bootstrap");
    let pods = builder.ready_pods();
    assert_eq!(pods.len(), 2, "{pods:?}");
    assert_eq!(super::buildkitds(&scene).len(), 2);
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    for _ in 0..3 {
        builder.buildctl(&hello, "").succeeds().says("CACHED").says_nothing_of("machine: x86_64");
    }
}
