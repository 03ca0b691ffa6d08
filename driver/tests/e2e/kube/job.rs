//! The main job, word for word, and how long a builder takes to be ready.

use std::time::Instant;

use crate::support::clock::seconds;
use crate::support::namespace::Namespace;
use crate::support::scene::Scene;

#[test]
fn the_main_job_works_as_it_is_written() {
    let mut scene = Scene::kube();
    // The one that the job names, instead of one with a name of its own.
    scene.stand_in(Namespace::named("builds"));
    let job = r#"
        buildfleet create --name kube --driver kubernetes --driver-opt namespace=builds,replicas=2 --bootstrap
        buildctl --addr "$(buildfleet socket kube)" build --frontend dockerfile.v0 --local context=. --local dockerfile=.
        docker buildx build --builder kube .
    "#;
    let done = scene.shell(&format!("set -e\n{job}")).dir(scene.contexts().hello()).succeeds();
    println!("the main job took {:?}", done.took);
    let builder = scene.builder("kube");
    assert_eq!(builder.ready_pods().len(), 2);
    // Two clients with the same project: one pod, one cache.
    done.says("machine: x86_64").says("CACHED");

    builder.remove();
    scene.has_no_builder();
    scene.namespace().empties();
}

#[test]
fn a_builder_is_ready_within_two_seconds_when_its_image_is_there() {
    let scene = Scene::kube_alone();
    // The daemon runs already: what is measured is from the start of the program `buildfleet create --bootstrap` to the line
    // that its pod is ready, which means that the pod has answered ListWorkers through the daemon. What comes after it, the
    // registration in buildx, is stock buildx's own time, and is printed beside it.
    scene.buildfleet("ls").succeeds();
    let namespace = scene.namespace().name();
    let mut took = Vec::new();
    for name in ["one", "two", "three"] {
        let create = format!("create --name {name} --driver kubernetes --driver-opt namespace={namespace} --bootstrap");
        let began = Instant::now();
        let creating = scene.buildfleet(&create).start();
        creating.says("ready (1/1)");
        let ready = began.elapsed();
        let created = creating.end().succeeded();
        println!("{name}: create --bootstrap: ready after {ready:?}, registered in buildx after {:?}", created.took);
        took.push(ready);
        // The wait tells what happens, on stderr; the name alone is the output.
        assert_eq!(created.word(), name);
        let story = &created.stderr;
        assert!(story.contains("scheduled on node-") && story.contains("started buildkitd"), "{story}");
        scene.builder(name).remove();
        scene.namespace().empties();
    }
    let best = took.iter().min().expect("three measurements");
    assert!(*best <= seconds(2), "ready after {took:?}");
}
