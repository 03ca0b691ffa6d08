//! `buildfleet doctor` on a real cluster: what works, what is missing, and that it starts nothing.

use std::fs;

use serde_json::{Value, json};

use crate::support::account::Account;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

/// The findings by their subject.
fn examined(scene: &Scene, words: &str, code: i32) -> Vec<Value> {
    scene.buildfleet(&format!("doctor {words} --format json")).end().with_code(code).json_lines()
}

#[track_caller]
fn has(findings: &[Value], subject: &str, verdict: &str, part: &str) {
    let fits = |it: &&Value| {
        it["Subject"] == subject && it["Verdict"] == verdict && it["Text"].as_str().is_some_and(|it| it.contains(part))
    };
    assert!(findings.iter().any(|it| fits(&it)), "no {subject} {verdict} with `{part}` in {findings:#?}");
}

#[test]
fn a_builder_that_works_is_found_well_and_no_pod_is_started() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name().to_owned();
    let planned = examined(&scene, "", 0);
    has(&planned, "API server", "works", "Kubernetes v1.");
    has(&planned, "deployments", "works", "create, patch, list, watch, delete");
    has(&planned, "transports", "note", "no pod runs");
    has(&planned, "machines", "works", "1 × amd64, 1 × arm64");

    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace}"));
    let idle = examined(&scene, "kube", 0);
    has(&idle, "pods", "note", "none runs");
    has(&idle, "socket", "works", "answers");
    assert_eq!(scene.namespace().objects(), Vec::<String>::new());

    scene.buildfleet("start kube").succeeds();
    let pod = builder.has_ready(1).remove(0);
    let well = examined(&scene, "kube", 0);
    has(&well, "namespace", "note", &namespace);
    for transport in ["pod-ip", "port-forward", "exec"] {
        has(&well, transport, "works", &format!("to pod {pod} in "));
    }
    has(&well, "BuildKit", "works", "v0.");
    has(&well, "pods", "works", "1 of 1 ready");
    has(&well, "docker buildx", "works", "v0.");
    let page = scene.buildfleet("doctor kube").succeeds();
    page.says("  ok    API server").says_nothing_of("FAIL");
}

#[test]
fn each_right_that_is_missing_is_named_with_its_namespace() {
    for (transport, rights, missing) in [
        ("exec", "port-forward", "not allowed to get or create pods/exec in namespace"),
        ("port-forward", "exec", "not allowed to get, create, patch or delete secrets in namespace"),
        ("port-forward", "pod-ip", "not allowed to get or create pods/portforward in namespace"),
    ] {
        let mut scene = Scene::kube();
        let directory = scene.path("account");
        let kubeconfig = {
            let account = Account::make(scene.namespace(), directory, Some(rights));
            account.kubeconfig("kubeconfig", &json!({ "token": account.token() }))
        };
        scene.set("KUBECONFIG", kubeconfig);
        scene.create("kube", &format!("--driver kubernetes --driver-opt transport={transport}"));
        let findings = examined(&scene, "kube", 1);
        let resource = missing.split(' ').find(|word| word.contains("secrets") || word.contains('/')).expect("one");
        has(&findings, resource, "fails", &format!("{missing} {}", scene.namespace().name()));
        has(&findings, "pods", "works", "list, watch");
        has(&findings, "machines", "note", "may not list the cluster's nodes");
        // One of several ways is no loss of the builder.
        scene.create("any", "--driver kubernetes --driver-opt transport=auto");
        let findings = examined(&scene, "any", if missing.contains("secrets") { 1 } else { 0 });
        if resource != "secrets" {
            has(&findings, resource, "warning", missing);
        }
    }
}

#[test]
fn a_cluster_that_cannot_be_reached_or_does_not_know_us_is_told_apart() {
    let mut scene = Scene::kube();
    let view = scene.namespace().kubectl("config view --raw --minify --output json").succeeds().json();
    let file = scene.path("kubeconfig");
    let write = |change: &dyn Fn(&mut Value)| {
        let mut config = view.clone();
        change(&mut config);
        fs::write(&file, config.to_string()).expect("a file of our own");
    };
    write(&|_| {});
    scene.set("KUBECONFIG", file.clone());
    scene.create("kube", "--driver kubernetes");

    write(&|config| config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1".into());
    scene.end_daemon();
    has(&examined(&scene, "kube", 1), "API server", "fails", "https://127.0.0.1:1");
    write(&|config| config["users"][0]["user"] = json!({ "token": "nobody's" }));
    scene.end_daemon();
    has(&examined(&scene, "kube", 1), "API server", "fails", "Unauthorized");
    write(&|config| config["contexts"] = json!([]));
    scene.end_daemon();
    has(&examined(&scene, "kube", 1), "kubeconfig", "fails", "failed to load current context");
    fs::remove_file(&file).expect("ours");
    scene.end_daemon();
    has(&examined(&scene, "kube", 1), "kubeconfig", "fails", "failed to read kubeconfig");
    scene.buildfleet("rm kube --force").succeeds();
}

/// The resource as a metrics server has it, kept by the API server itself: the name of its group is reserved.
const METRICS: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "pods.metrics.k8s.io",
        "annotations": { "api-approved.kubernetes.io": "unapproved, for a test" }
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Namespaced",
        "names": { "plural": "pods", "kind": "PodMetrics", "listKind": "PodMetricsList" },
        "versions": [{
            "name": "v1beta1",
            "served": true,
            "storage": true,
            "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } }
        }]
    }
}"#;

/// Takes the resource away again, also when the test fails.
struct Metrics<'a>(&'a Scene);

impl Drop for Metrics<'_> {
    fn drop(&mut self) {
        let removed = self.0.namespace().kubectl("delete customresourcedefinition pods.metrics.k8s.io").end();
        assert!(std::thread::panicking() || removed.is_success(), "{removed}");
    }
}

#[test]
fn top_shows_what_the_cluster_measures_and_says_when_it_measures_nothing() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name().to_owned();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap"));
    let pod = builder.has_ready(1).remove(0);
    let shown = scene.buildfleet("top kube").succeeds();
    shown.says(&pod).says("CPU and memory are not known: node kube0: ").says("serves no metrics.k8s.io");

    let file = scene.path("metrics.json");
    fs::write(&file, METRICS).expect("a file of our own");
    scene.namespace().kubectl("create --filename").arg(&file).succeeds();
    let _metrics = Metrics(&scene);
    scene.namespace().kubectl("wait --for=condition=Established crd/pods.metrics.k8s.io --timeout=20s").succeeds();
    let measured = json!({
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "PodMetrics",
        "metadata": { "name": pod, "labels": { "app": "kube0" } },
        "containers": [{ "name": "buildkitd", "usage": { "cpu": "1250000000n", "memory": "1048576Ki" } }],
    });
    fs::write(&file, measured.to_string()).expect("a file of our own");
    wait_for("the resource to be served", seconds(20), || {
        scene.namespace().kubectl("create --filename").arg(&file).end().is_success().then_some(())
    });
    wait_for("the measured values", seconds(20), || {
        let told = scene.buildfleet("top kube --format json").succeeds().json();
        (told["CPUMillis"] == 1250 && told["MemoryBytes"] == 1 << 30).then_some(())
    });
    scene.buildfleet("top kube").succeeds().says("1.25  1GiB").says_nothing_of("not known");
}
