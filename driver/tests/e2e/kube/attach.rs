//! `create --attach`: pods that others run, in the shape of BuildKit's own examples, used and never changed.

use std::fs;

use serde_json::{Value, json};

use crate::support::account::Account;
use crate::support::call::Outcome;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

/// As in BuildKit's examples/kubernetes: privileged, on its default socket.
fn workload(kind: &str, name: &str, replicas: u32) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas, "serviceName": name, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 2, "containers": [
                {"name": "builder", "image": "moby/buildkit:buildx-stable-1", "imagePullPolicy": "IfNotPresent",
                 "securityContext": {"privileged": true}},
            ]}},
        },
    })
}

/// The same without privileges, on the socket that its arguments name.
fn rootless(name: &str) -> Value {
    let mut object = workload("Deployment", name, 1);
    let pod = &mut object["spec"]["template"]["spec"];
    pod["containers"][0] = json!({
        "name": "buildkit", "image": "moby/buildkit:buildx-stable-1-rootless", "imagePullPolicy": "IfNotPresent",
        "args": ["--addr", "tcp://127.0.0.1:1234", "--addr", "unix:///run/user/1000/buildkit/buildkitd.sock",
                 "--oci-worker-no-process-sandbox"],
        "securityContext": {
            "runAsUser": 1000, "runAsGroup": 1000,
            "seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "Unconfined"},
        },
        "volumeMounts": [{"name": "state", "mountPath": "/home/user/.local/share/buildkit"}],
    });
    pod["volumes"] = json!([{"name": "state", "emptyDir": {}}]);
    object
}

fn apply(scene: &Scene, mut object: Value) -> Outcome {
    if object["kind"] == "Deployment" {
        object["spec"].as_object_mut().expect("a spec").remove("serviceName");
    }
    let file = scene.path(&format!("{}.json", object["kind"].as_str().expect("a kind")));
    fs::write(&file, object.to_string()).expect("a file of our own");
    scene.namespace().kubectl("apply --filename").arg(&file).succeeds()
}

/// What others gave the workload: all but what the cluster reports.
fn spec(scene: &Scene, what: &str) -> Value {
    let object = scene.namespace().kubectl("get --output json").arg(what).succeeds().json();
    json!([
        object["spec"],
        object["metadata"]["annotations"],
        object["metadata"]["labels"],
        object["metadata"]["generation"]
    ])
}

#[test]
fn pods_of_others_are_built_in_with_the_right_to_look_and_to_exec_alone() {
    let mut scene = Scene::kube();
    apply(&scene, workload("Deployment", "team", 2));
    apply(&scene, workload("StatefulSet", "state", 1));
    apply(&scene, rootless("rootless"));
    let directory = scene.path("account");
    let kubeconfig = {
        let account = Account::make(scene.namespace(), directory, Some("attach"));
        account.kubeconfig("kubeconfig", &json!({ "token": account.token() }))
    };
    scene.set("KUBECONFIG", kubeconfig);
    let hello = scene.contexts().hello();
    for (name, to, pods) in [
        ("a", "deployment/team", 2),
        ("b", "statefulset/state", 1),
        ("c", "pod/state-0", 1),
        ("d", "deploy/rootless", 1),
    ] {
        let object = to.replace("pod/state-0", "statefulset/state").replace("deploy/", "deployment/");
        let before = spec(&scene, &object);
        let builder = scene.create(name, &format!("--driver kubernetes --attach {to} --bootstrap"));
        assert_eq!(builder.has_ready(pods).len(), pods);
        builder.buildctl(&hello, "--no-cache").succeeds().says("machine: x86_64");
        builder.buildx(&hello, "").succeeds().says("CACHED");
        assert_eq!(builder.pods()[0]["Transport"], "exec");
        scene.buildfleet(&format!("logs {name}0")).succeeds().says("running server on");
        builder.stop();
        assert_eq!(builder.status(), "stopped");
        builder.buildctl(&hello, "").succeeds().says("CACHED");
        scene.buildfleet(&format!("rm {name}")).succeeds().says("detached: its pods are not buildfleet's, and stay");
        assert_eq!(spec(&scene, &object), before, "{to}");
    }
    scene.has_no_builder();
    assert_eq!(scene.namespace().pods().len(), 4);
}

#[test]
fn what_is_not_there_or_would_need_more_is_named() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let create = |words: &str| scene.buildfleet(&format!("create --name x --driver kubernetes {words}"));
    let attach = format!("--attach deployment/none --driver-opt namespace={namespace}");
    let failed = create(&format!("{attach} --bootstrap")).fails().faster_than(seconds(15));
    failed.says("failed to attach to deployment/none: it is not there in namespace");
    create(&format!("{attach},replicas=2,transport=port-forward"))
        .fails()
        .says("`replicas`")
        .says("needs certificates");
    create("--attach service/x").fails().says("deployment/NAME, statefulset/NAME and pod/NAME");
    scene.has_no_builder();
}

#[test]
fn pods_that_their_owner_scales_are_followed() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    apply(&scene, workload("Deployment", "team", 1));
    let builder = scene.create(
        "a",
        &format!("--driver kubernetes --attach deployment/team --driver-opt namespace={namespace} --bootstrap"),
    );
    builder.has_ready(1);
    scene.namespace().kubectl("scale deployment team --replicas 2").succeeds();
    builder.has_ready(2);
    scene.namespace().kubectl("scale deployment team --replicas 0").succeeds();
    wait_for("the end of the pods", seconds(30), || builder.ready_pods().is_empty().then_some(()));
    let waiting = builder.buildctl(&scene.contexts().hello(), "").start();
    waiting.says("whoever runs it has scaled it to zero");
    scene.namespace().kubectl("scale deployment team --replicas 1").succeeds();
    waiting.end().succeeded().says("machine: x86_64");
}
