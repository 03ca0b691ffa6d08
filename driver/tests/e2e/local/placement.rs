//! Which process gets a build, and what `inspect --placement` says of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::builder::Builder;
use crate::support::scene::Scene;
use crate::support::tools::on_path;

/// A directory that is a checkout, in which nothing takes long.
fn checkout(scene: &Scene, name: &str) -> PathBuf {
    let directory = scene.path(name);
    fs::create_dir(&directory).expect("a directory of our own");
    fs::write(directory.join("Dockerfile"), "FROM scratch\nARG N\nCOPY Dockerfile /\nLABEL n=$N\n").expect("a file");
    assert!(on_path("git").is_some(), "no git on PATH: buildx asks it where a context comes from");
    let git = "git init -q . && git remote add origin https://ci:s3cret@Git.example/team/app.git";
    scene.shell(git).dir(&directory).succeeds();
    directory
}

/// Newest first.
fn placements(builder: &Builder<'_>, scene: &Scene, name: &str) -> Vec<Value> {
    let shown = scene.buildfleet(&format!("inspect {name} --placement --format json")).succeeds().json();
    let placement = &shown["Nodes"][0]["Placement"];
    assert_eq!(placement["Policy"], "sticky", "{placement}");
    assert_eq!(builder.node(0)["Placement"], Value::Null, "it was not asked for");
    placement["Latest"].as_array().expect("a list").clone()
}

fn because(placement: &Value) -> &str {
    placement["Because"].as_str().expect("a reason")
}

/// How many of them are on each pod.
fn spread(placements: &[Value]) -> BTreeMap<String, usize> {
    let mut pods = BTreeMap::new();
    for placement in placements {
        *pods.entry(placement["Pod"].as_str().expect("a pod").to_owned()).or_default() += 1;
    }
    pods
}

fn bake(scene: &Scene, directory: &Path, targets: usize) {
    let target = |i: usize| (format!("t{i}"), json!({"context": ".", "args": {"N": i.to_string()}}));
    let targets: serde_json::Map<String, Value> = (0..targets).map(target).collect();
    let file = json!({"group": {"default": {"targets": targets.keys().collect::<Vec<_>>()}}, "target": targets});
    fs::write(directory.join("docker-bake.json"), file.to_string()).expect("a file of our own");
    scene.buildx("bake --builder four --progress=plain").dir(directory).succeeds();
}

#[test]
fn a_project_has_one_home_and_a_bake_has_all_pods_and_inspect_says_why() {
    let scene = Scene::local();
    let builder = scene.create("four", "--driver local --driver-opt replicas=4 --bootstrap");
    scene.buildfleet("inspect four --placement").succeeds().says("Builds: none since the daemon was started");

    // Another commit, target and checkout of one repository, by both clients.
    let (one, other) = (checkout(&scene, "one"), checkout(&scene, "other"));
    builder.buildx(&one, "--build-arg GIT_SHA=0a1b2c3 --tag r.example/app:0a1b2c3").succeeds();
    builder.buildx(&other, "--build-arg GIT_SHA=7d6e5f4 --no-cache").succeeds();
    builder.buildctl(&one, "--opt vcs:source=git@git.example:team/app.git").succeeds();
    let placed = placements(&builder, &scene, "four");
    assert_eq!((placed.len(), spread(&placed).len()), (3, 1), "{placed:?}");
    for placement in &placed {
        assert_eq!(because(placement), "home of project git.example/team/app", "{placement}");
    }
    assert!(!scene.daemon_log().contains("s3cret"), "{}", scene.daemon_log());

    bake(&scene, &one, 12);
    let placed = placements(&builder, &scene, "four");
    let baked = &placed[..12];
    assert_eq!(spread(baked).into_values().collect::<Vec<_>>(), [3; 4], "{baked:?}");
    assert_eq!(because(&baked[11]), "home of project git.example/team/app");
    assert_eq!(because(&baked[0]), "spread beside 11 other builds of this invocation");
    assert_eq!(spread(&[placed[11].clone()]), spread(&[placed[12].clone()]), "the first one goes home");

    let shown = scene.buildfleet("inspect four --placement").succeeds();
    shown.says("Load Balancing:").says("spread beside 1 other build of this invocation");
}
