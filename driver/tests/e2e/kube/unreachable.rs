//! Clusters that cannot be asked: each is told by the file, context or address that is wrong, in time.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use crate::support::clock::seconds;
use crate::support::scene::Scene;

#[test]
fn a_kubeconfig_that_is_not_there_is_named() {
    let mut scene = Scene::kube();
    let missing = scene.path("no/such/kubeconfig");
    let given = format!("create --name doomed --driver kubernetes --kubeconfig {} --bootstrap", missing.display());
    let failed = scene.buildfleet(&given).fails().faster_than(seconds(5));
    failed.says(&missing.display().to_string());
    scene.has_no_builder();

    scene.set("KUBECONFIG", missing.clone());
    let failed =
        scene.buildfleet("create --name doomed --driver kubernetes --bootstrap").fails().faster_than(seconds(5));
    failed.says(&missing.display().to_string());
    scene.has_no_builder();
}

#[test]
fn a_kubeconfig_that_is_none_is_named() {
    let scene = Scene::kube();
    let file = scene.path("broken.yaml");
    fs::write(&file, "apiVersion: [\n").expect("a file of our own");
    let given = format!("create --name doomed --driver kubernetes --kubeconfig {} --bootstrap", file.display());
    scene.buildfleet(&given).fails().says(&file.display().to_string()).faster_than(seconds(5));
    scene.has_no_builder();
}

#[test]
fn a_context_that_is_not_there_is_named_with_those_that_are() {
    let scene = Scene::kube();
    let given = "create --name doomed --driver kubernetes --context staging --bootstrap";
    scene.buildfleet(given).fails().says("staging").says("buildfleet-rig").faster_than(seconds(5));
    scene.has_no_builder();
}

#[test]
fn an_api_server_that_does_not_answer_is_named_in_time() {
    let scene = Scene::kube();
    // Takes connections, and never says a word on them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    for (server, limit) in [
        // Nobody listens.
        ("127.0.0.1:1".to_owned(), seconds(20)),
        // Accepts by the kernel's hand, and keeps silent.
        (silent, seconds(30)),
        // No such machine.
        ("10.255.255.1:6443".to_owned(), seconds(30)),
    ] {
        let file = kubeconfig(&scene, &server);
        let create = format!(
            "create --name doomed --driver kubernetes --kubeconfig {} --timeout 8s --bootstrap",
            file.display()
        );
        let failed = scene.buildfleet(&create).fails().faster_than(limit);
        println!("{server}: told after {:?}", failed.took);
        failed.says(&server);
        scene.has_no_builder();
    }
}

#[test]
fn a_builder_of_a_cluster_that_is_gone_can_be_listed_and_forgotten() {
    let scene = Scene::kube();
    let file = kubeconfig(&scene, "127.0.0.1:1");
    let create = format!("--driver kubernetes --kubeconfig {} --driver-opt timeout=5s", file.display());
    let builder = scene.create("lost", &create);
    scene.buildfleet("ls").succeeds().says("lost0").faster_than(seconds(5));
    scene.buildx("ls").succeeds().says("lost0").faster_than(seconds(25));
    let failed = builder.buildctl(&scene.contexts().hello(), "").fails().faster_than(seconds(25));
    failed.says("127.0.0.1:1");
    scene.buildfleet("rm lost").fails().says("127.0.0.1:1").faster_than(seconds(30));
    assert_eq!(scene.builders().len(), 1);
    scene.buildfleet("rm --force lost").succeeds().faster_than(seconds(30));
    scene.has_no_builder();
}

/// A cluster at this address, as far as the file says.
fn kubeconfig(scene: &Scene, server: &str) -> PathBuf {
    let file = scene.path("elsewhere.yaml");
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: elsewhere, cluster: {{server: \"https://{server}\", insecure-skip-tls-verify: true}}}}]
users: [{{name: somebody, user: {{token: t}}}}]
contexts: [{{name: elsewhere, context: {{cluster: elsewhere, user: somebody}}}}]
current-context: elsewhere
"
    );
    fs::write(&file, text).expect("a file of our own");
    file
}
