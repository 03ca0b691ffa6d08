//! Sets in the cluster: accepted, applied, compared, scaled, taken over and deleted.

use std::fs;
use std::path::Path;

use crate::support::account::Account;
use crate::support::clock::seconds;
use crate::support::scene::Scene;

#[test]
fn the_api_server_accepts_every_rendering() {
    let scene = Scene::kube();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/by-hand");
    let mut files = 0;
    // Strictly: a field that Kubernetes does not know would be dropped in silence.
    for entry in fs::read_dir(folder).expect("golden files") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("YAML");
        let file = scene.path("set.yaml");
        fs::write(&file, text.replace("namespace: builds", &format!("namespace: {}", scene.namespace().name())))
            .expect("a file of our own");
        scene.namespace().kubectl("apply --dry-run=server --validate=strict -f").arg(&file).succeeds();
        files += 1;
    }
    assert!(files > 20, "{files}");
    let printed = scene.buildfleet("manifests deployment -o json").succeeds();
    fs::write(scene.path("set.json"), printed.stdout).expect("a file of our own");
    scene.namespace().kubectl("apply --dry-run=server -f").arg(scene.path("set.json")).succeeds();
    let directory = scene.path("base");
    let write =
        |words: &str| scene.buildfleet("manifests statefulset -o kustomize --into").arg(&directory).words(words);
    write("").succeeds();
    scene
        .namespace()
        .kubectl("apply --dry-run=server -k")
        .arg(&directory)
        .succeeds()
        .says("statefulset.apps/buildkitd");
    // Somebody's work is not lost by another run.
    write("").succeeds();
    write("--mode rootless").fails().says("is there and says something else");
    write("--mode rootless --force").succeeds();
}

#[test]
fn a_set_is_applied_compared_scaled_and_deleted() {
    let scene = Scene::kube();
    let namespace = scene.namespace();
    let set = |words: &str| {
        let call =
            scene.buildfleet("manifests deployment --driver-opt transport=exec,requests.cpu=10m --network-policy");
        call.words("--pod-disruption-budget --prometheus --namespace").arg(namespace.name()).words(words)
    };
    set("--diff").succeeds().says("+kind: Deployment");
    assert_eq!(namespace.objects(), Vec::<String>::new());
    let applied = set("--apply").succeeds();
    let all = "networkpolicy buildkitd created\ndeployment buildkitd created\npoddisruptionbudget buildkitd created\n";
    assert_eq!(applied.stdout, all);
    set("--diff").succeeds().says("nothing would change");
    // What another has scaled stays so.
    namespace.kubectl("scale --replicas=2 deployment/buildkitd").succeeds();
    set("--apply").succeeds().says("deployment buildkitd unchanged");
    namespace.kubectl("rollout status --timeout 80s deployment/buildkitd").succeeds();
    assert_eq!(namespace.pods().len(), 2);

    let metrics = namespace.kubectl("get pods --output jsonpath={.items[0].status.podIP}").succeeds();
    let metrics = scene.shell(&format!("curl --silent --max-time 20 http://{}:6060/metrics", metrics.word()));
    metrics.succeeds().says("rpc_server_call_duration_seconds").says("process_resident_memory_bytes");

    // What another has set is not taken from him without a word.
    namespace.kubectl("set resources deployment/buildkitd --requests=cpu=20m").succeeds();
    set("--apply").fails().says("somebody else's").says("kubectl-set").says("hint: --force takes these fields over");
    set("--diff --force").succeeds().says("-            cpu: 20m\n+            cpu: 10m");
    set("--apply --force").succeeds().says("deployment buildkitd changed");

    let json = set("--delete --format json").succeeds().json_lines();
    let results: Vec<&str> = json.iter().map(|it| it["Result"].as_str().expect("a word")).collect();
    assert_eq!(results, ["deleted"; 3]);
    set("--delete").succeeds().says("deployment buildkitd not there");
    namespace.empties();

    // What cannot be changed says so, and what to do; nobody but the cluster's own words say why.
    let pod = |words: &str| scene.buildfleet("manifests pod --namespace").arg(namespace.name()).words(words);
    pod("--apply").succeeds();
    pod("--mode rootless --apply").fails().says("it cannot be changed so").says("hint: delete pod buildkitd first");
    pod("--delete").succeeds();
    let nowhere = scene.buildfleet("manifests statefulset --apply --namespace not-there").fails();
    nowhere.says("namespace not-there does not exist").says("kubectl create namespace not-there");
    namespace.empties();
}

#[test]
fn a_right_that_is_missing_is_named_and_the_documented_ones_are_enough() {
    let mut scene = Scene::kube();
    let account = Account::make(scene.namespace(), scene.path("account"), Some("manifests"));
    let kubeconfig = account.kubeconfig("kubeconfig", &serde_json::json!({ "token": account.token() }));
    scene.set("KUBECONFIG", kubeconfig);
    let set =
        |words: &str| scene.buildfleet("manifests statefulset --network-policy --pod-disruption-budget").words(words);
    set("--apply").succeeds().says("statefulset buildkitd created");
    set("--diff").succeeds();
    set("--delete").succeeds();
    scene.namespace().kubectl("delete rolebinding buildfleet-manifests").succeeds();
    let refused = set("--apply").within(seconds(40)).fails();
    refused.says("not allowed to get statefulsets in namespace").says("docs/rbac.md");
}
