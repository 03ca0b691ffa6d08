//! A builder with nodes of several drivers: a pod for one platform, this machine for the other.

use crate::support::contexts::UNAME;
use crate::support::oci::platforms_of_index;
use crate::support::registry;
use crate::support::scene::Scene;

/// The nodes that have a record of a build, in order.
fn built_on(scene: &Scene) -> Vec<String> {
    let listed = scene.buildfleet("history ls --builder mixed --format").arg("{{.Node}}").succeeds();
    let mut nodes: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
    nodes.sort();
    nodes
}

#[test]
fn a_pod_and_this_machine_build_one_image_each_its_platform() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let kube = format!("--driver kubernetes --driver-opt namespace={namespace}");
    let builder = scene.create("mixed", &format!("{kube} --platform linux/amd64 --bootstrap"));
    // What is no option of the node's own driver is refused.
    let local = "create --name mixed --append --driver local --node lap --platform linux/arm64";
    scene.buildfleet(local).words("--driver-opt nodeselector=a=b").fails().says("nodeselector");
    scene.buildfleet(local).words("--bootstrap").succeeds();

    scene.buildfleet("ls").succeeds().says("kubernetes, local").says("local://");
    scene.buildfleet("inspect mixed").succeeds().says("kubernetes, local").says("local://");
    let shown = builder.inspect();
    assert_eq!(
        (shown["Nodes"][0]["Driver"].as_str(), shown["Nodes"][1]["Driver"].as_str()),
        (Some("kubernetes"), Some("local"))
    );
    let asked = scene.buildfleet("create --name mixed --append --platform linux/386").fails();
    asked.says("nodes of several drivers (kubernetes, local)");

    let image = registry::image("mixed");
    let output = format!("type=image,name={image},push=true,registry.insecure=true");
    let words = format!("--platform linux/amd64,linux/arm64 --output {output}");
    let built = builder.buildx(&scene.contexts().with("telling", UNAME), &words).succeeds();
    built.says("this machine is: x86_64").says("this machine is: aarch64");
    assert_eq!(platforms_of_index(&registry::index(&image)), ["linux/amd64", "linux/arm64"]);
    assert_eq!(built_on(&scene), ["lap", "mixed0"]);

    // A daemon that starts again finds both, and neither is let go without the other.
    scene.end_daemon();
    assert_eq!(builder.inspect()["Driver"], "kubernetes, local");
    scene.buildfleet("rm mixed --keep-daemon").fails().says("node lap are processes of this daemon");
    scene.buildfleet("create --leave --name mixed --node lap").succeeds();
    assert_eq!(builder.inspect()["Driver"], "kubernetes");
    scene.buildx("inspect mixed").succeeds().says("mixed0").says_nothing_of("lap");

    // The other way round: a pod joins this machine's builder. It is let go of, joined again with its cache, and removed.
    scene.create("lap", "--driver local --platform linux/arm64");
    let first = scene.namespace().pods();
    scene.buildfleet("rm mixed --keep-daemon").succeeds().says("let go: its pods stay as they are");
    assert_eq!(scene.namespace().pods(), first);
    scene
        .buildfleet(&format!("create --name lap --append --node mixed0 --platform linux/amd64 --bootstrap {kube}"))
        .succeeds();
    assert_eq!(scene.namespace().pods(), first, "the pod that was let go");
    let lap = scene.builder("lap");
    assert_eq!(lap.inspect()["Driver"], "local, kubernetes");
    let words = "--platform linux/amd64 --output type=cacheonly";
    lap.buildx(&scene.contexts().with("telling", UNAME), words).succeeds().says("CACHED");
    lap.remove();
    scene.has_no_builder();
    scene.namespace().empties();
}
