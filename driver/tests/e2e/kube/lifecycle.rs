//! Builders of the cluster from their beginning to their end, over the daemon's death.

use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::scene::Scene;

#[test]
fn looking_at_a_builder_starts_no_pod_and_a_build_does() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("idle", &format!("--driver kubernetes --driver-opt namespace={namespace}"));
    scene.buildfleet("ls").succeeds().says("idle0");
    builder.inspect();
    scene.buildx("ls").succeeds().says("idle0");
    scene.buildx("inspect idle").succeeds().says("idle0");
    scene.buildctl("--addr").arg(builder.address()).words("debug workers").succeeds().says("linux/amd64");
    assert_eq!(scene.namespace().objects(), Vec::<String>::new());

    let hello = scene.contexts().hello();
    builder.buildx(&hello, "").succeeds().says("machine: x86_64").faster_than(seconds(20));
    assert_eq!(builder.ready_pods().len(), 1);

    builder.stop();
    assert_eq!(builder.status(), "stopped");
    let deployment = scene.namespace().kubectl("get deployment idle0 --output jsonpath={.spec.replicas}").succeeds();
    assert_eq!(deployment.word(), "0");
    scene.buildx("ls").succeeds().says("idle0");
    let deployment = scene.namespace().kubectl("get deployment idle0 --output jsonpath={.spec.replicas}").succeeds();
    assert_eq!(deployment.word(), "0");

    builder.buildctl(&hello, "").succeeds().says("machine: x86_64").faster_than(seconds(20));
    assert_eq!(builder.status(), "running");
}

#[test]
fn a_restarted_daemon_finds_its_builders_and_their_pods() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("namespace={namespace},replicas=2");
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    let hello = scene.contexts().hello();
    builder.buildx(&hello, "").succeeds().says("machine: x86_64");
    let pods = scene.namespace().pods();

    scene.kill_daemon();
    // The pods do not depend on the daemon.
    builder.buildctl(&hello, "").succeeds().says("CACHED").says_nothing_of("machine: x86_64");
    builder.buildx(&hello, "").succeeds().says("CACHED");
    assert_eq!(scene.namespace().pods(), pods);
    assert_eq!(builder.has_ready(2).len(), 2);

    // In order, the same.
    scene.end_daemon();
    builder.buildctl(&hello, "").succeeds().says("CACHED");
    assert_eq!(scene.namespace().pods(), pods);

    builder.remove();
    scene.namespace().empties();
}

#[test]
fn logs_are_those_of_the_pods() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap"));
    let pod = builder.ready_pods().remove(0);
    scene.buildfleet("logs kube0").succeeds().says("running server on").says(&pod);
    scene.buildfleet("logs kube1").fails().says("kube1");
}

#[test]
fn a_node_that_is_created_again_shows_what_changes_and_rolls() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap"));
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    let first = builder.ready_pods();
    let again = |opts: &str, words: &str| {
        let line = format!("create --name kube --node kube0 --driver-opt namespace={namespace}{opts} {words}");
        scene.buildfleet(&line)
    };
    // A look changes nothing.
    let shown = again(",replicas=2,limits.memory=2Gi", "--diff").succeeds();
    assert!(shown.stdout.starts_with("deployment kube0:\n@@ "), "{shown}");
    let shown = shown.says("-  replicas: 1\n").says("+  replicas: 2\n").says("+            memory: 2Gi\n");
    assert!(shown.stdout.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert_eq!(builder.has_ready(1), first);
    assert_eq!(again("", "--diff").succeeds().stdout, "");
    assert_eq!(builder.node(0)["DriverOpts"]["replicas"], serde_json::Value::Null);

    // More pods of the same kind roll nothing.
    again(",replicas=2", "--bootstrap").succeeds().says("+  replicas: 2\n");
    let two = builder.has_ready(2);
    assert!(two.contains(&first[0]), "{two:?} without {first:?}");
    // Another image does, and fewer pods are fewer.
    again(",image=docker.io/moby/buildkit:buildx-stable-1", "--bootstrap")
        .succeeds()
        .says("-        image: moby/buildkit:buildx-stable-1\n")
        .says("+        image: docker.io/moby/buildkit:buildx-stable-1");
    let rolled = wait_for("the rollout", seconds(40), || {
        let pods = builder.ready_pods();
        (pods.len() == 1 && pods.iter().all(|pod| !two.contains(pod))).then_some(pods)
    });
    assert_eq!(rolled.len(), 1);
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    builder.remove();
    scene.namespace().empties();
}

#[test]
fn manifests_are_what_kubectl_applies() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("namespace={namespace},transport=exec,poddisruptionbudget=minAvailable=1");
    let line = format!("create --name kube --driver kubernetes --driver-opt {opts} --dry-run -o yaml");
    let printed = scene.buildfleet(&line).succeeds();
    scene.has_no_builder();
    let file = scene.path("objects.yaml");
    std::fs::write(&file, &printed.stdout).expect("a file of our own");
    scene.namespace().kubectl("apply --filename").arg(&file).succeeds();
    let made = scene.namespace().objects();
    for object in ["deployment/kube0", "poddisruptionbudget.policy/kube0"] {
        assert!(made.contains(&object.to_owned()), "{made:?}");
    }
    // What kubectl made is no stranger's, and is as it should be.
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    builder.buildctl(&scene.contexts().hello(), "").succeeds().says("machine: x86_64");
    builder.remove();
    scene.namespace().empties();

    let secured =
        format!("create --name kube --driver kubernetes --driver-opt namespace={namespace} --dry-run -o yaml");
    let printed = scene.buildfleet(&secured).succeeds();
    assert!(printed.stdout.starts_with("# Secret kube0-tls is left out"), "{printed}");
    scene.buildfleet("create --driver local --dry-run -o yaml").fails().says("not made of manifests");
}

#[test]
fn what_the_options_no_longer_want_goes_with_the_next_start() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = |more: &str| format!("--driver kubernetes --driver-opt namespace={namespace}{more} --bootstrap");
    let builder = scene.create("kube", &opts(",poddisruptionbudget=minAvailable=1"));
    let has = |object: &str| scene.namespace().objects().iter().any(|found| found == object);
    assert!(has("secret/kube0-tls") && has("poddisruptionbudget.policy/kube0"));
    scene.create("kube", &format!("--node kube0 {}", opts(",transport=exec")));
    builder.has_ready(1);
    assert!(!has("secret/kube0-tls") && !has("poddisruptionbudget.policy/kube0"), "{:?}", scene.namespace().objects());
    builder.buildctl(&scene.contexts().hello(), "").succeeds().says("machine: x86_64");
    builder.remove();
    scene.namespace().empties();
}

#[test]
fn certificates_that_are_about_to_end_are_renewed_while_builds_run() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("namespace={namespace},transport=pod-ip");
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    let first = builder.has_ready(1).remove(0);
    let slow = scene.contexts().slow("slow", 25);
    let running = [builder.buildctl(&slow, "").start(), builder.buildx(&slow, "").start()];
    for build in &running {
        build.says(BEGINS);
    }
    // In ten days: too soon.
    let soon = "buildfleet.internal/not-after=2026-12-01T00:00:00Z";
    scene.namespace().kubectl("annotate secret kube0-tls --overwrite").arg(soon).succeeds();
    let secret = || scene.namespace().kubectl("get secret kube0-tls --output jsonpath={.data}").succeeds().stdout;
    let before = secret();
    builder.bootstrap();
    assert_ne!(secret(), before);
    let going = || !scene.namespace().pod(&first)["metadata"]["deletionTimestamp"].is_null();
    wait_for("the old pod's order to go", seconds(30), || going().then_some(()));
    // The next build is the new pod's, with the new certificates; those that run are not touched.
    let built = builder.buildctl(&scene.contexts().hello(), "--no-cache").succeeds();
    assert!(!built.stderr.contains("begun anew"), "{built}");
    for build in running {
        build.end().succeeded().says_nothing_of("again on another pod");
    }
    wait_for("the old pod's end", seconds(40), || (!scene.namespace().pods().contains(&first)).then_some(()));
    builder.remove();
    scene.namespace().empties();
}
