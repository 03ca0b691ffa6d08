//! One socket before many pods: which pod gets which build. The pods' own histories are the witnesses.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::support::builder::Builder;
use crate::support::clock::seconds;
use crate::support::scene::Scene;

/// The refs that each pod has in its history.
fn built(scene: &Scene, builder: &Builder<'_>) -> BTreeMap<String, usize> {
    let count = |pod: String| {
        let listed = scene.namespace().kubectl("exec").arg(&pod).words("-- buildctl debug histories").succeeds();
        // A head, and a line for each.
        (pod, listed.stdout.lines().filter(|line| !line.trim().is_empty()).count().saturating_sub(1))
    };
    builder.ready_pods().into_iter().map(count).filter(|(_, builds)| *builds > 0).collect()
}

/// A bake file of this many targets, with a context of its own for each when they are independent projects.
fn bake(scene: &Scene, name: &str, targets: usize) -> PathBuf {
    let context = scene.contexts().with(name, "ARG TARGET\nRUN echo building $TARGET && sleep 1\n");
    let names: Vec<String> = (0..targets).map(|i| format!("\"t{i}\"")).collect();
    let mut file = format!("group \"default\" {{ targets = [{}] }}\n", names.join(", "));
    for name in &names {
        file += &format!("target {name} {{\n  context = \".\"\n  args = {{ TARGET = {name} }}\n}}\n");
    }
    fs::write(context.join("docker-bake.hcl"), file).expect("a file of our own");
    context
}

fn four_pods<'a>(scene: &'a Scene, name: &'static str, more: &str) -> Builder<'a> {
    let opts = format!("namespace={},replicas=4{more}", scene.namespace().name());
    let builder = scene.create(name, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    builder.has_ready(4);
    builder
}

#[test]
fn a_bake_of_twelve_targets_uses_all_four_pods() {
    let scene = Scene::kube();
    let builder = four_pods(&scene, "wide", "");
    let context = bake(&scene, "twelve", 12);
    let call = scene.buildx("bake --builder wide --progress=plain").dir(&context).within(seconds(120));
    call.succeeds();
    let built = built(&scene, &builder);
    println!("{built:?}");
    assert_eq!(built.values().copied().collect::<Vec<_>>(), [3, 3, 3, 3], "{built:?}");
}

#[test]
fn linked_targets_stay_together() {
    let scene = Scene::kube();
    let builder = four_pods(&scene, "wide", "");
    let context = scene.contexts().with("linked", "RUN echo base > /base\n");
    fs::write(context.join("Dockerfile.app"), "FROM base\nRUN cat /base && echo app > /app\n")
        .expect("a file of our own");
    let file = r#"
group "default" { targets = ["app1", "app2", "app3"] }
target "base" {
  context = "."
}
target "app" {
  context = "."
  dockerfile = "Dockerfile.app"
  contexts = { base = "target:base" }
}
target "app1" {
  inherits = ["app"]
  labels = { which = "1" }
}
target "app2" {
  inherits = ["app"]
  labels = { which = "2" }
}
target "app3" {
  inherits = ["app"]
  labels = { which = "3" }
}
"#;
    fs::write(context.join("docker-bake.hcl"), file).expect("a file of our own");
    scene.buildx("bake --builder wide --progress=plain").dir(&context).within(seconds(120)).succeeds();
    let built = built(&scene, &builder);
    assert_eq!(built.values().copied().collect::<Vec<_>>(), [4], "{built:?}");
}

#[test]
fn the_same_project_twenty_times_stays_on_one_pod() {
    let scene = Scene::kube();
    let builder = four_pods(&scene, "wide", "");
    let hello = scene.contexts().hello();
    for turn in 0..10 {
        // What changes from run to run does not move a project.
        builder.buildx(&hello, &format!("-t registry.example/hello:{turn} --build-arg COMMIT={turn}")).succeeds();
    }
    let first = built(&scene, &builder);
    assert_eq!(first.values().copied().collect::<Vec<_>>(), [10], "{first:?}");
    for turn in 10..20 {
        builder.buildx(&hello, &format!("-t registry.example/hello:{turn}")).succeeds();
    }
    let second = built(&scene, &builder);
    assert_eq!(second.values().copied().collect::<Vec<_>>(), [20], "{second:?}");
}

#[test]
fn builds_at_the_same_time_go_to_the_least_loaded_pods() {
    let scene = Scene::kube();
    let builder = four_pods(&scene, "even", ",loadbalance=least-loaded");
    let builds: Vec<_> = (0..8)
        .map(|i| {
            let slow = scene.contexts().slow(&format!("slow-{i}"), 8);
            let build = builder.buildctl(&slow, "").within(seconds(120)).start();
            build.says(crate::support::contexts::BEGINS);
            build
        })
        .collect();
    for build in builds {
        build.end().succeeded();
    }
    let built = built(&scene, &builder);
    assert_eq!(built.len(), 4, "{built:?}");
    assert!(built.values().all(|builds| *builds <= 3), "{built:?}");
}
