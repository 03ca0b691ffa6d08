//! Pods that cannot start: the cluster's own words come back in time, and nothing is left behind.

use std::fs;

use crate::support::call::Call;
use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::support::tools::cluster;

/// Tries to create a builder that must not come into being.
fn refused(scene: &Scene, words: &str, said: &[&str]) -> std::time::Duration {
    let create = format!("create --name doomed --driver kubernetes --bootstrap {words}");
    let failed = said.iter().fold(scene.buildfleet(&create).fails(), |failed, part| failed.says(part));
    scene.has_no_builder();
    failed.took
}

#[test]
fn pods_that_cannot_start_are_told_in_the_clusters_words_when_the_time_is_up() {
    let scene = Scene::kube();
    let (namespace, registry) = (scene.namespace().name(), &cluster().registry);
    let image = format!("{registry}/no/such/image:1");
    for (words, said) in [
        (format!("image={image} --timeout 6s"), ["doomed0-", "image", &image, "not found"]),
        ("requests.cpu=500 --timeout 5s".to_owned(), ["doomed0-", "cannot be scheduled", "Insufficient cpu", "5"]),
        (
            "timeout=6s --buildkitd-flags --no-such-flag".to_owned(),
            ["doomed0-", "exit code", "no-such-flag", "flag provided but not defined"],
        ),
    ] {
        let took = refused(&scene, &format!("--driver-opt namespace={namespace},{words}"), &said);
        assert!(took > seconds(4) && took < seconds(12), "{words}: told after {took:?}");
        scene.namespace().empties();
    }
}

#[test]
fn a_build_is_told_the_same_and_the_builder_can_be_mended() {
    let scene = Scene::kube();
    let (namespace, registry) = (scene.namespace().name(), &cluster().registry);
    let image = format!("{registry}/no/such/image:1");
    let opts = format!("namespace={namespace},image={image},timeout=6s");
    let builder = scene.create("broken", &format!("--driver kubernetes --driver-opt {opts}"));
    let hello = scene.contexts().hello();
    let builds = [builder.buildctl(&hello, "").start(), builder.buildx(&hello, "").start()];
    for build in builds {
        let failed = build.end().failed().faster_than(seconds(20));
        failed.says("broken0-").says(&image).says("not found");
    }
    assert_eq!(builder.status(), "starting");
    // The same node with other options.
    let opts = format!("namespace={namespace},timeout=30s");
    scene.create("broken", &format!("--node broken0 --driver kubernetes --driver-opt {opts} --bootstrap"));
    builder.buildx(&hello, "").succeeds().says("machine: x86_64");
    builder.remove();
    scene.namespace().empties();
}

#[test]
fn a_namespace_that_is_not_there_is_named_at_once() {
    let scene = Scene::kube();
    let missing = format!("{}-missing", scene.namespace().name());
    let took = refused(&scene, &format!("--driver-opt namespace={missing}"), &["namespace", &missing]);
    assert!(took < seconds(10), "told after {took:?}");
}

#[test]
fn an_account_without_rights_is_told_which_right_is_missing() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    scene.namespace().kubectl("create serviceaccount nobody").succeeds();
    let token = scene.namespace().kubectl("create token nobody").succeeds();
    // The cluster's own file, with another user.
    let file = scene.path("nobody.yaml");
    fs::copy(&cluster().kubeconfig, &file).expect("a file of our own");
    let config = |words: &str| {
        Call::new(&cluster().kubectl).arg(format!("--kubeconfig={}", file.display())).words(words).succeeds();
    };
    config(&format!("config set-credentials nobody --token={}", token.word()));
    config("config set-context nobody --user=nobody");
    let cluster_name =
        Call::new(&cluster().kubectl).words("config view --minify --output jsonpath={.clusters[0].name}");
    config(&format!("config set-context nobody --cluster={}", cluster_name.succeeds().word()));
    let words = format!("--kubeconfig {} --context nobody --driver-opt namespace={namespace}", file.display());
    let took = refused(&scene, &words, &["not allowed", namespace]);
    assert!(took < seconds(10), "told after {took:?}");
    assert_eq!(scene.namespace().objects(), ["serviceaccount/nobody"]);
}

#[test]
fn every_wrong_option_is_told_at_once_and_nothing_is_made() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let words = format!("--driver-opt namespace={namespace},replicas=none,rotless=true --driver-opt limits.cpu=many");
    let create = scene.buildfleet(&format!("create --name doomed --driver kubernetes --bootstrap {words}"));
    let failed = create.fails().with_code(2).faster_than(seconds(5));
    failed.says("`replicas`").says("did you mean `rootless`?").says("`limits.cpu`");
    scene.has_no_builder();
    assert_eq!(scene.namespace().objects(), Vec::<String>::new());
}
