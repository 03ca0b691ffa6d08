//! More than one pod, more than one node, more than one platform.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::builds;
use crate::support::builder::Builder;
use crate::support::call::Outcome;
use crate::support::oci::platforms_of_index;
use crate::support::registry;
use crate::support::scene::Scene;
use crate::support::tools::cluster;

/// A step shares its pod's network, so it can tell where it runs.
fn telling_its_pod(scene: &Scene) -> PathBuf {
    let step = "RUN echo \"$(uname -m) at $(grep -o '10[.]244[.][0-9]*[.][0-9]*' /proc/net/fib_trie | sort -u | tr '\\n' ' ')\"\n";
    scene.contexts().with("telling", step)
}

/// The address of the pod in which a step for the architecture said to run.
fn ran_at(built: &Outcome, architecture: &str, addresses: &[String]) -> String {
    let says = |address: &&String| {
        let line =
            built.stderr.lines().find(|line| line.contains(&format!("{architecture} at ")) && !line.contains("RUN"));
        line.is_some_and(|line| line.split(' ').any(|word| word == *address))
    };
    addresses
        .iter()
        .find(says)
        .unwrap_or_else(|| panic!("no step for {architecture} at any of {addresses:?}: {built}"))
        .clone()
}

fn addresses(scene: &Scene, pods: &[String]) -> Vec<String> {
    let address = |pod: &String| scene.namespace().pod(pod)["status"]["podIP"].as_str().expect("an address").to_owned();
    pods.iter().map(address).collect()
}

#[test]
fn a_project_stays_with_its_pod_unless_random_is_asked_for() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let telling = telling_its_pod(&scene);
    let once = |builder: &Builder<'_>, addresses: &[String]| {
        ran_at(&builder.buildctl(&telling, "--no-cache").succeeds(), "x86_64", addresses)
    };
    let opts = format!("--driver kubernetes --driver-opt namespace={namespace},replicas=2");

    let sticky = scene.create("sticky", &format!("{opts} --bootstrap"));
    let its_addresses = addresses(&scene, &sticky.ready_pods());
    assert_eq!(its_addresses.len(), 2);
    let seen: BTreeSet<String> = (0..5).map(|_| once(&sticky, &its_addresses)).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");

    let random = scene.create("random", &format!("{opts},loadbalance=random --bootstrap"));
    let its_addresses = addresses(&scene, &random.ready_pods());
    let mut seen = BTreeSet::new();
    // Thirty throws of a coin are not all the same.
    for _ in 0..30 {
        seen.insert(once(&random, &its_addresses));
        if seen.len() == 2 {
            return;
        }
    }
    panic!("all builds went to {seen:?}");
}

#[test]
fn one_pod_builds_arm64_by_qemu() {
    let scene = Scene::kube();
    let (namespace, image) = (scene.namespace().name(), &cluster().qemu_image);
    for (name, rootless) in [("privileged", "false"), ("rootless", "true")] {
        let opts = format!("namespace={namespace},rootless={rootless},qemu.install=true,qemu.image={image}");
        let builder = scene.create(name, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
        let pod = scene.namespace().pod(&builder.ready_pods()[0]);
        assert_eq!(pod["spec"]["initContainers"][0]["image"].as_str(), Some(image.as_str()));
        builds::two_platforms_by_emulation(&scene, &builder);
        builder.remove();
    }
    scene.namespace().empties();
}

#[test]
fn each_platform_is_built_on_its_own_machine_and_pushed_as_one_image() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = |arch: &str| format!("namespace={namespace},nodeselector=kubernetes.io/arch={arch}");
    let builder =
        scene.create("fleet", &format!("--driver kubernetes --platform linux/amd64 --driver-opt {}", opts("amd64")));
    let append = format!("--append --node native-arm --platform linux/arm64 --driver-opt {}", opts("arm64"));
    scene.create("fleet", &format!("{append} --bootstrap"));
    builder.bootstrap();

    // buildx knows both nodes with their platforms.
    let shown = scene.buildx("inspect fleet").succeeds().says("fleet0").says("native-arm");
    assert!(shown.stdout.contains("linux/arm64*") && shown.stdout.contains("linux/amd64*"), "{shown}");

    let pod_of = |index: usize| builder.node(index)["Pods"][0]["Name"].as_str().expect("a pod").to_owned();
    let pods = [pod_of(0), pod_of(1)];
    assert_eq!(scene.namespace().machine_of(&pods[0]), "node-amd64");
    assert_eq!(scene.namespace().machine_of(&pods[1]), "node-arm64");
    let addresses = addresses(&scene, &pods);

    let image = registry::image("each-on-its-own");
    let output = format!("type=image,name={image},push=true,registry.insecure=true");
    let words = format!("--platform linux/amd64,linux/arm64 --output {output}");
    let built = builder.buildx(&telling_its_pod(&scene), &words).succeeds();
    assert_eq!(ran_at(&built, "x86_64", &addresses), addresses[0]);
    assert_eq!(ran_at(&built, "aarch64", &addresses), addresses[1]);
    assert_eq!(platforms_of_index(&registry::index(&image)), ["linux/amd64", "linux/arm64"]);

    // A node's own socket is that node.
    let socket = scene.buildfleet("socket fleet --node native-arm").succeeds();
    let workers = scene.buildctl("--addr").arg(socket.word()).words("debug workers --verbose").succeeds();
    workers.says(&pods[1]).says_nothing_of(&pods[0]);

    // buildctl knows no nodes: it pushes what one of them builds.
    let image = registry::image("by-buildctl");
    let output = format!("type=image,name={image},push=true,registry.insecure=true");
    builder.buildctl(&scene.contexts().hello(), &format!("--opt platform=linux/amd64 --output {output}")).succeeds();

    // One node leaves, here, in buildx and in the cluster.
    scene.buildfleet("create --name fleet --leave --node native-arm").succeeds();
    scene.buildx("inspect fleet").succeeds().says("fleet0").says_nothing_of("native-arm");
    assert_eq!(builder.inspect()["Nodes"].as_array().map(Vec::len), Some(1));
    assert!(!scene.namespace().objects().contains(&"deployment/native-arm".to_owned()));
    builder.remove();
    scene.has_no_builder();
    scene.namespace().empties();
}
