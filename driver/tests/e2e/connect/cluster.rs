//! `kube-service://` and `kube-pod://`: pods of somebody else by their address, with the rights that the documentation names.

use std::fs;

use serde_json::{Value, json};

use crate::support::account::Account;
use crate::support::clock::seconds;
use crate::support::contexts::BEGINS;
use crate::support::pki::Pki;
use crate::support::scene::Scene;

/// As in BuildKit's examples: a Service with mTLS in front of pods that also listen on their default socket.
fn objects() -> Value {
    let labels = json!({"app": "buildkitd"});
    let args = [
        "--addr",
        "unix:///run/buildkit/buildkitd.sock",
        "--addr",
        "tcp://0.0.0.0:1235",
        "--tlscacert",
        "/certs/ca.pem",
        "--tlscert",
        "/certs/cert.pem",
        "--tlskey",
        "/certs/key.pem",
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "buildkitd"},
            "spec": {"selector": labels, "ports": [{"port": 1234, "targetPort": "tls"}]},
        },
        {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "buildkitd"},
            "spec": {
                "serviceName": "buildkitd", "replicas": 2, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "containers": [
                        {"name": "proxy", "image": "moby/buildkit:buildx-stable-1", "imagePullPolicy": "IfNotPresent",
                         "command": ["sleep", "1000000"]},
                        {"name": "builder", "image": "moby/buildkit:buildx-stable-1", "imagePullPolicy": "IfNotPresent",
                         "args": args, "ports": [{"name": "tls", "containerPort": 1235}],
                         "securityContext": {"privileged": true},
                         "volumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": true}]},
                    ],
                    "volumes": [{"name": "certs", "secret": {"secretName": "buildkit-daemon-certs"}}],
                }},
            },
        },
    ]})
}

/// The pods, and the options of a client whose certificate they know.
fn run_pods(scene: &Scene) -> (String, Pki) {
    let pki = Pki::make(scene.path("pki"), &["buildkitd"]);
    let secret = scene.namespace().kubectl("create secret generic buildkit-daemon-certs");
    let file = |name: &str, path: std::path::PathBuf| format!("--from-file={name}={}", path.display());
    let secret = secret.arg(file("ca.pem", pki.authority())).arg(file("cert.pem", pki.certificate("server")));
    secret.arg(file("key.pem", pki.key("server"))).succeeds();
    let manifest = scene.path("objects.json");
    fs::write(&manifest, objects().to_string()).expect("a file of our own");
    scene.namespace().kubectl("apply --filename").arg(&manifest).succeeds();
    let (cert, key) = (pki.certificate("client"), pki.key("client"));
    (format!("cacert={},cert={},key={}", pki.authority().display(), cert.display(), key.display()), pki)
}

/// From now on the scene's programs are this account's, with the Role that the documentation has for the address.
fn with_rights(scene: &mut Scene, role: &str) -> String {
    let directory = scene.path(role);
    let account = Account::make(scene.namespace(), directory, Some(role));
    let kubeconfig = account.kubeconfig("kubeconfig", &json!({ "token": account.token() }));
    scene.set("KUBECONFIG", kubeconfig);
    let context = scene.shell("kubectl config current-context").succeeds();
    context.word().to_owned()
}

#[test]
fn pods_behind_a_service_are_used_by_mtls_with_the_documented_rights_alone() {
    let mut scene = Scene::kube();
    let (opts, pki) = run_pods(&scene);
    let context = with_rights(&mut scene, "kube-service");
    let namespace = scene.namespace().name().to_owned();
    let hello = scene.contexts().hello();

    let builder = scene.create(
        "svc",
        &format!("--driver remote --driver-opt {opts} --bootstrap --timeout 90s kube-service://buildkitd:1234"),
    );
    builder.has_ready(2);
    assert_eq!(
        builder.node(0)["Endpoint"],
        format!("kube-service://buildkitd:1234?context={context}&namespace={namespace}")
    );
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    builder.buildx(&hello, "").succeeds().says("CACHED");
    assert_eq!(builder.pods()[0]["Transport"], "pod-ip");
    scene.buildfleet("logs svc0").succeeds().says("running server on");
    scene.buildfleet("doctor svc").succeeds().says("pods/portforward").says("services");

    // A pod that is deleted takes no build with it: its builds are begun anew on the other.
    let slow = scene.contexts().slow("slow", 6);
    let build = builder.buildx(&slow, "").start();
    build.says(BEGINS);
    let busy = builder.busy_pods().remove(0);
    // The account may not.
    scene.namespace().kill(&busy);
    build.end().succeeded().says(&busy);
    builder.has_ready(2);

    // The API server's way in, and what the pods refuse.
    let other = scene.create(
        "pf",
        &format!("--driver remote --driver-opt {opts},transport=port-forward --bootstrap kube-service://buildkitd"),
    );
    other.buildctl(&hello, "--no-cache").succeeds().says("machine: x86_64");
    assert_eq!(other.pods()[0]["Transport"], "port-forward");
    let create =
        |words: &str| scene.buildfleet(&format!("create --name x --driver remote --timeout 5s --bootstrap {words}"));
    let bare = format!("cacert={}", pki.authority().display());
    let strangers = Pki::make(scene.path("strangers"), &["buildkitd"]);
    let other_ca = format!("cacert={}", strangers.authority().display());
    let other_name = format!("{opts},servername=127.0.0.1");
    for (opts, wanted) in
        [(&bare, "ertificate"), (&other_ca, "invalid peer certificate"), (&other_name, "not valid for name")]
    {
        let refused = create(&format!("--driver-opt {opts} kube-service://buildkitd:1234")).fails();
        refused.says(wanted).faster_than(seconds(20));
    }
    create(&format!("--driver-opt {opts} kube-service://buildkitd:80")).fails().says("has no port 80, it has 1234");
    create(&format!("--driver-opt {opts} kube-service://none:1"))
        .fails()
        .says("service/none: it is not there in namespace");
    // Not allowed to exec: the right and the other way are named.
    let refused = create("kube-pod://buildkitd-0").fails();
    refused.says("not allowed to create pods/exec in namespace").says("kube-service://NAME:PORT");

    other.remove();
    builder.remove();
    scene.has_no_builder();
    assert_eq!(scene.namespace().pods().len(), 2);
}

#[test]
fn a_pod_is_entered_by_its_name_wherever_the_kubeconfig_points_later() {
    let mut scene = Scene::kube();
    run_pods(&scene);
    scene.namespace().kubectl("rollout status statefulset/buildkitd --timeout=60s").succeeds();
    let context = scene.shell("kubectl config current-context").succeeds().word().to_owned();
    let namespace = scene.namespace().name().to_owned();
    let hello = scene.contexts().hello();
    // With all that BuildKit's own client takes, and with as little.
    let whole = format!("kube-pod://buildkitd-0?context={context}&namespace={namespace}&container=builder");
    let bare = format!("kube-pod://buildkitd-1?context={context}&namespace={namespace}");
    scene.shell(&format!("buildctl --addr '{whole}' debug workers")).succeeds();
    with_rights(&mut scene, "kube-pod");
    scene.create("first", &format!("--driver remote --bootstrap {whole}"));
    scene.create("second", "--driver remote --bootstrap kube-pod://buildkitd-1");
    scene.set("KUBECONFIG", "/nowhere");
    let (first, second) = (scene.builder("first"), scene.builder("second"));
    for (builder, address) in [(&first, &whole), (&second, &bare)] {
        builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
        builder.buildx(&hello, "").succeeds().says("CACHED");
        assert_eq!((&builder.node(0)["Endpoint"], &builder.pods()[0]["Transport"]), (&json!(address), &json!("exec")));
    }
    scene.buildfleet("ls").succeeds().says(&whole).says(&bare);
    scene.buildfleet("doctor first").succeeds().says("pods/exec");
    scene.buildfleet("logs second0").succeeds().says("running server on");
    first.remove();
    second.remove();
    assert_eq!(scene.namespace().pods().len(), 2);
}
