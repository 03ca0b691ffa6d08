//! How long a builder takes to be ready, with nothing beside it. Its name is the first, so that few tests wait for its turn.

use std::time::Instant;

use crate::support::clock::seconds;
use crate::support::scene::Scene;

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
