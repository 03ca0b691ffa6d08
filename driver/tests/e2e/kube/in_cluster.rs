//! The daemon in a pod of the cluster, with the pod's service account.

use std::path::Path;

use serde_json::json;

use crate::support::account::{ACCOUNT, Account};
use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::support::tools::{BUILDFLEET, service_environment};

/// This pod runs on this machine, as all do, and so it runs this machine's program with this machine's libraries.
fn run_pod(scene: &Scene) {
    let programs = Path::new(BUILDFLEET).parent().expect("a program is in a directory");
    let volumes = [
        ("programs", programs, "/programs"),
        ("lib", "/usr/lib".as_ref(), "/lib"),
        ("lib64", "/lib64".as_ref(), "/lib64"),
    ];
    let mounts: Vec<_> =
        volumes.iter().map(|(name, _, to)| json!({ "name": name, "mountPath": to, "readOnly": true })).collect();
    let volumes: Vec<_> =
        volumes.iter().map(|(name, from, _)| json!({ "name": name, "hostPath": { "path": from } })).collect();
    let mut environment = service_environment();
    environment.push(json!({ "name": "HOME", "value": "/root" }));
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "ci" },
        "spec": {
            "serviceAccountName": ACCOUNT,
            "nodeSelector": { "kubernetes.io/arch": "amd64" },
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "ci",
                "image": "docker.io/moby/buildkit:buildx-stable-1",
                "command": ["sleep", "600"],
                "env": environment,
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    });
    let file = scene.path("pod.json");
    std::fs::write(&file, pod.to_string()).expect("a file of our own");
    scene.namespace().kubectl("create --filename").arg(&file).succeeds();
    scene.namespace().kubectl("wait --for=condition=Ready --timeout=60s pod/ci").succeeds();
}

#[test]
fn a_daemon_in_a_pod_builds_with_the_pods_service_account() {
    let scene = Scene::kube();
    let account = Account::make(scene.namespace(), scene.path("account"), None);
    run_pod(&scene);
    let inside = |words: &str| scene.namespace().kubectl("exec ci -- /programs/buildfleet").words(words);

    inside("create --name kube --driver kubernetes --bootstrap").succeeds().faster_than(seconds(60));
    let nodes = inside("inspect kube --format json").succeeds().json()["Nodes"].clone();
    let pods = nodes[0]["Pods"].as_array().cloned().unwrap_or_default();
    assert_eq!(pods.len(), 1, "{nodes:#}");
    assert_eq!((pods[0]["Status"].as_str(), pods[0]["Transport"].as_str()), (Some("ready"), Some("pod-ip")));
    inside("ls").succeeds().says("kube0");
    // The namespace is the pod's own.
    assert_eq!(scene.namespace().pods().len(), 2);

    let busybox = "mkdir /hello && cp /bin/busybox /hello/busybox && \
                   printf 'FROM scratch\\nCOPY busybox /bin/busybox\\nRUN [\"/bin/busybox\",\"uname\",\"-m\"]\\n' >/hello/Dockerfile && \
                   buildctl --addr $(/programs/buildfleet socket kube) build --progress=plain --frontend dockerfile.v0 \
                   --local context=/hello --local dockerfile=/hello";
    scene.namespace().kubectl("exec ci -- sh -c").arg(busybox).succeeds().says("x86_64");

    inside("rm kube").succeeds();
    scene.namespace().kubectl("delete pod ci").succeeds();
    account.remove();
    scene.namespace().empties();
}
