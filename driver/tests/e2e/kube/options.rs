//! What options do in real pods.

use std::fs;

use serde_json::Value;

use crate::support::builder::Builder;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

/// A label that only a `buildkitd` with this configuration reports.
fn labelled(scene: &Scene, label: &str) -> String {
    let file = scene.path(&format!("{label}.toml"));
    fs::write(&file, format!("[worker.oci.labels]\n  \"configured\" = \"{label}\"\n")).expect("a directory of our own");
    format!("--buildkitd-config {}", file.display())
}

fn label(builder: &Builder<'_>) -> Value {
    builder.node(0)["Labels"]["configured"].clone()
}

#[test]
fn pods_read_their_configuration_privileged_and_rootless_and_another_one_replaces_them() {
    for rootless in ["false", "true"] {
        let scene = Scene::kube();
        let opts = format!("--driver kubernetes --driver-opt namespace={},rootless={rootless}", scene.namespace().name());
        let builder = scene.create("told", &format!("{opts} {} --bootstrap", labelled(&scene, "first")));
        assert_eq!(label(&builder), "first", "rootless={rootless}");
        let pod = builder.has_ready(1).remove(0);
        let again = labelled(&scene, "second");
        scene.buildfleet(&format!("create --name told --node told0 {again} --bootstrap")).succeeds();
        wait_for("the pod with the second configuration", seconds(40), || {
            let pods = builder.ready_pods();
            (label(&builder) == "second" && !pods.is_empty() && !pods.contains(&pod)).then_some(())
        });
        builder.remove();
    }
}

#[test]
fn a_pod_with_a_user_namespace_of_its_own_builds() {
    let scene = Scene::kube();
    let opts = format!("--driver kubernetes --driver-opt namespace={},hostusers=false", scene.namespace().name());
    let builder = scene.create("mapped", &format!("{opts} {} --bootstrap", labelled(&scene, "mapped")));
    assert_eq!(label(&builder), "mapped");
    let pod = builder.has_ready(1).remove(0);
    let map = scene.namespace().kubectl("exec").arg(&pod).words("-- cat /proc/self/uid_map").succeeds();
    assert!(!map.stdout.contains("4294967295"), "{map}");
    builder.buildctl(&scene.contexts().with("mapped", "RUN echo \"root is $(id -u)\"\n"), "").succeeds().says("root is 0");
    builder.remove();
    scene.namespace().empties();
}
