//! What pods may not do, and what a rootless one cannot do without.

use std::fs;

use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

/// A rootless pod with something in the place of something else.
fn apply(scene: &Scene, name: &str, change: impl Fn(&str) -> String) {
    let printed = scene.buildfleet(&format!("manifests pod --mode rootless --name {name}")).succeeds();
    let changed = change(&printed.stdout);
    assert_ne!(changed, printed.stdout, "{name}");
    let file = scene.path(&format!("{name}.yaml"));
    fs::write(&file, changed).expect("a file of our own");
    scene.namespace().kubectl("apply -f").arg(file).succeeds();
}

fn label(scene: &Scene, level: &str) {
    let namespace = scene.namespace();
    namespace
        .kubectl("label namespace")
        .arg(namespace.name())
        .arg(format!("pod-security.kubernetes.io/{level}"))
        .succeeds();
}

#[test]
fn a_rootless_pod_is_outside_of_baseline_in_two_places_alone_and_needs_what_it_has() {
    let scene = Scene::kube();
    let namespace = scene.namespace();
    label(&scene, "warn=baseline");
    let printed = scene.buildfleet("manifests pod --mode rootless").succeeds();
    let file = scene.path("pod.yaml");
    fs::write(&file, printed.stdout).expect("a file of our own");
    let warned = namespace.kubectl("apply --dry-run=server -f").arg(&file).succeeds();
    let (_, violations) = warned.stderr.split_once("\"baseline:latest\": ").expect("a warning");
    assert_eq!(
        violations.trim(),
        "forbidden AppArmor profile (container \"buildkitd\" must not set AppArmor profile type to \"Unconfined\"), \
         seccompProfile (container \"buildkitd\" must not set securityContext.seccompProfile.type to \"Unconfined\")"
    );

    // The runtime's default seccomp profile in the place of none: rootlesskit cannot make its namespaces. (What its AppArmor
    // profile forbids cannot be seen here: the kernel of this machine may have no AppArmor.)
    apply(&scene, "confined", |text| {
        text.replace("seccompProfile:\n        type: Unconfined", "seccompProfile:\n        type: RuntimeDefault")
    });
    // RUN steps with a PID namespace of their own: none runs.
    apply(&scene, "sandboxed", |text| {
        text.lines().filter(|line| !line.contains("no-process-sandbox")).map(|line| format!("{line}\n")).collect()
    });
    wait_for("the end of rootlesskit", seconds(60), || {
        let log = namespace.kubectl("logs confined").end();
        (log.is_success() && log.stdout.contains("operation not permitted")).then_some(())
    });
    namespace.kubectl("wait --for condition=Ready --timeout 80s pod/sandboxed").succeeds();
    let build = scene
        .buildctl("--addr")
        .arg(format!("kube-pod://sandboxed?namespace={}", namespace.name()))
        .words("build --progress plain --frontend dockerfile.v0 --local context=. --local dockerfile=.")
        .dir(scene.contexts().hello());
    build.fails().says("failed to solve: process");
    // With the policy enforced, and both relaxations in it, the pod is refused by the API server's own words.
    label(&scene, "enforce=baseline");
    let refused = scene.buildfleet("manifests pod --mode rootless --name refused --apply --namespace");
    refused.arg(namespace.name()).fails().says("violates PodSecurity");
    namespace.kubectl("delete pod --all --wait=false --grace-period=0 --force").succeeds();
}

#[test]
fn doctor_says_what_machines_lack_for_pods_without_root() {
    let scene = Scene::kube();
    let page = |options: &str| scene.buildfleet("doctor --driver-opt").arg(options).succeeds();
    page("rootless=true").says("user.max_user_namespaces").says("kernel.unprivileged_userns_clone");
    page("hostusers=false").says("user namespaces").says("all machines have them for pods");
    scene.buildfleet("doctor --driver-opt rotless=true").end().with_code(2).says("did you mean `rootless`?");
}
