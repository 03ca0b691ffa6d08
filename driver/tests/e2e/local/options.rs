//! What options do with processes of this machine.

use std::fs;

use serde_json::Value;

use crate::support::scene::Scene;

#[test]
fn processes_read_their_configuration_as_root_and_as_another_user() {
    for scene in [Scene::local(), Scene::unprivileged()] {
        let file = scene.path("home/mine.toml");
        for label in ["first", "second"] {
            fs::write(&file, format!("[worker.oci.labels]\n  configured = \"{label}\"\n")).expect("a file of our own");
            let node = if label == "first" { "" } else { "--node told0" };
            // The path is seen from the working directory, which is this home.
            let words = format!("--driver local {node} --buildkitd-config mine.toml --bootstrap");
            let builder = scene.create("told", &words);
            assert_eq!(builder.node(0)["Labels"]["configured"], label);
        }
        scene.buildfleet("rm told").succeeds();
        assert!(!scene.state_dir().join("local/told0").exists());
    }
}

#[test]
fn buildx_is_told_to_load_what_has_no_output_and_to_stop_that() {
    let scene = Scene::local();
    let told = || {
        let file = scene.path("docker/buildx/instances/loads");
        let group: Value = serde_json::from_slice(&fs::read(file).expect("buildx's file")).expect("JSON");
        group["Nodes"][0]["DriverOpts"]["default-load"].clone()
    };
    scene.create("loads", "--driver local --driver-opt default-load=true");
    assert_eq!(told(), "true");
    scene.buildfleet("create --name loads --node loads0 --driver-opt replicas=2").succeeds();
    assert_eq!(told(), "false");
    scene.buildfleet("rm loads").succeeds();
}
