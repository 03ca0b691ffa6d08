//! Builders that stock buildx made go on here with their pods and caches, and go back.

use std::fs;

use serde_json::Value;

use crate::support::contexts::UNAME;
use crate::support::oci::platforms_of_index;
use crate::support::registry;
use crate::support::scene::Scene;

/// Names and uids of the pods of the namespace.
fn pods(scene: &Scene) -> Vec<String> {
    let what = "jsonpath={range .items[*]}{.metadata.name}={.metadata.uid}{\"\\n\"}{end}";
    let listed = scene.namespace().kubectl("get pods --output").arg(what).succeeds();
    let mut pods: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
    pods.sort();
    pods
}

fn instance(scene: &Scene, name: &str) -> Value {
    let text = fs::read(scene.path("docker/buildx/instances").join(name)).expect("buildx knows it");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn builders_of_stock_buildx_are_taken_over_with_their_caches_and_given_back() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let hello = scene.contexts().with("imported", UNAME);
    let build = |name: &str, words: &str| {
        let call = scene.buildx(&format!("build --builder {name} --progress=plain --output type=cacheonly {words}"));
        call.arg(&hello).succeeds()
    };
    let create = |words: &str, arch: &str| {
        let opts = format!("\"nodeselector=kubernetes.io/arch={arch}\",namespace={namespace},requests.cpu=10m");
        scene.buildx(&format!("create --driver kubernetes {words} --driver-opt")).arg(opts).succeeds();
    };
    create("--name one --use --buildkitd-flags --debug", "amd64");
    create("--name two --node two-amd --platform linux/amd64", "amd64");
    create("--name two --append --node two-arm --platform linux/arm64", "arm64");
    let other = r#"{"Name":"other","Driver":"docker-container","Nodes":[{"Name":"other0","Endpoint":"unix:///x"}]}"#;
    fs::write(scene.path("docker/buildx/instances/other"), other).expect("a file of our own");
    build("one", "").says("this machine is: x86_64");
    build("two", "--platform linux/amd64,linux/arm64").says("this machine is: aarch64");
    let (before, theirs) = (pods(&scene), [instance(&scene, "one"), instance(&scene, "two")]);
    assert_eq!(before.len(), 3);

    // A look changes nothing.
    let planned = scene.buildfleet("import --all --dry-run").succeeds();
    planned
        .says("one can be imported")
        .says("attach=deployment/one0")
        .says("two can be imported")
        .says("two-arm")
        .says("other is left to docker buildx: its driver is docker-container");
    assert_eq!(scene.builders(), Vec::<Value>::new());
    assert_eq!([instance(&scene, "one"), instance(&scene, "two")], theirs);
    // What cannot be is said with its reason, and keeps nothing else.
    scene.buildfleet("import other").fails().says("its driver is docker-container");
    scene.buildfleet("import none").fails().says("docker buildx has no builder none");

    scene.buildfleet("import --all").succeeds().says("one imported").says("two imported");
    let known = instance(&scene, "two");
    assert_eq!((known["Driver"].as_str(), known["Nodes"].as_array().map(Vec::len)), (Some("remote"), Some(2)));
    assert_eq!(known["Nodes"][1]["Platforms"][0]["architecture"], "arm64");
    // Names, options, platforms and flags are those of before, and so is the current builder.
    let one = scene.builder("one").node(0);
    assert_eq!(one["DriverOpts"]["requests.cpu"], "10m");
    assert!(one["Flags"].as_array().is_some_and(|flags| flags.contains(&Value::from("--debug"))), "{one}");
    let current = scene.buildx("inspect").succeeds();
    assert!(current.stdout.contains("one") && current.stdout.contains("remote"), "{current}");

    // The same pods, and what they have built is there.
    build("one", "").says("CACHED");
    build("two", "--platform linux/amd64,linux/arm64").says("CACHED").says_nothing_of("this machine is: x86_64");
    assert_eq!(pods(&scene), before);
    assert_eq!(scene.builder("one").inspect()["Nodes"][0]["Pods"][0]["Transport"], "exec");
    let image = registry::image("imported");
    let push = format!(
        "build --builder two --platform linux/amd64,linux/arm64 --output type=image,name={image},push=true,registry.insecure=true"
    );
    scene.buildx(&push).arg(&hello).succeeds();
    assert_eq!(platforms_of_index(&registry::index(&image)), ["linux/amd64", "linux/arm64"]);

    // A daemon that starts again knows them still; twice is refused.
    scene.end_daemon();
    assert_eq!(scene.builders().len(), 2);
    build("one", "").says("CACHED");
    scene.buildfleet("import one").fails().says("it is buildfleet's already");

    scene.buildfleet("export --all --dry-run").succeeds().says("one can be exported").says("two can be exported");
    scene.buildfleet("export one two").succeeds().says("one exported");
    assert_eq!([instance(&scene, "one"), instance(&scene, "two")], theirs);
    assert_eq!(scene.builders(), Vec::<Value>::new());
    build("one", "").says("CACHED");
    build("two", "--platform linux/amd64,linux/arm64").says("CACHED");
    assert_eq!(pods(&scene), before);

    // One that buildfleet made goes the same way, without what buildx does not know.
    let opts = format!("namespace={namespace},transport=exec,retry=off");
    let own =
        scene.create("own", &format!("--driver kubernetes --platform linux/amd64 --driver-opt {opts} --bootstrap"));
    own.buildx(&hello, "").succeeds();
    let with_own = pods(&scene);
    let exported = scene.buildfleet("export own").succeeds();
    exported.says("does not know and will not have retry, transport").says("which has to be");
    build("own", "").says("CACHED");
    assert_eq!(pods(&scene), with_own);
    for name in ["one", "two", "own"] {
        scene.buildx(&format!("rm {name}")).succeeds();
    }
}
