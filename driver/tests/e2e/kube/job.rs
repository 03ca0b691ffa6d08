//! The main job, word for word.

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
