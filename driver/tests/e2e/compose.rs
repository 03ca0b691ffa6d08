//! `docker compose build`: stock compose bakes through docker's plugin for buildx, which is ours, to a builder of ours.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::registry;
use crate::support::scene::Scene;
use crate::support::tools::{cluster, program};

#[test]
fn docker_compose_builds_with_a_builder_through_the_plugin() {
    let scene = Scene::kube();
    symlink(program("docker-compose"), scene.path("docker/cli-plugins/docker-compose"))
        .expect("a directory of our own");
    scene.buildfleet("install --user").succeeds();
    let config = scene.path("buildkitd.toml");
    fs::write(&config, format!("[registry.\"{}\"]\n  http = true\n", cluster().registry)).expect("a file of our own");
    let create = format!(
        "docker buildx create --name kube --driver kubernetes --driver-opt namespace={} --buildkitd-config {} --use --bootstrap",
        scene.namespace().name(),
        config.display()
    );
    scene.shell(&create).succeeds();

    let images = ["web", "api"].map(|name| registry::image(&format!("compose-{name}")));
    let context = scene.contexts().hello();
    let service =
        |name: &str, image: &str| format!("  {name}:\n    image: {image}\n    build: {}\n", context.display());
    let project = scene.path("project");
    fs::create_dir(&project).expect("a directory of our own");
    let text = format!("services:\n{}{}", service("web", &images[0]), service("api", &images[1]));
    fs::write(project.join("compose.yaml"), text).expect("a file of our own");

    // Stock buildx alone would find nobody at the builder's socket: that somebody is there again is the plugin's doing.
    scene.end_daemon();
    scene.shell("docker compose build --push").dir(&project).succeeds().says("machine: x86_64");
    for image in &images {
        assert!(registry::manifest(image)["schemaVersion"] == 2, "no {image}");
    }
    let placed = scene.shell("docker buildfleet inspect kube --placement").succeeds();
    placed.says("home of project").says("spread beside 1 other build");

    scene.shell("docker buildx rm kube").succeeds();
    scene.has_no_builder();
    scene.namespace().empties();
}
