//! What is left of people who never come back is collected, and what somebody uses is not.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::account::Account;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;
use crate::support::volume::Volume;

#[test]
fn what_nobody_has_used_for_its_ttl_is_collected_and_nothing_else() {
    let ci = Scene::kube();
    let anna = Scene::beside(&ci);
    let namespace = ci.namespace().name();
    let opts = |more: &str| format!("--driver kubernetes --driver-opt namespace={namespace}{more}");
    // A job that is cancelled removes nothing: its daemon is gone, and with it all that knows of the builder.
    ci.create("job", &format!("{} --bootstrap", opts(",poddisruptionbudget=minAvailable=1")));
    let _volume = Volume::make(&ci);
    ci.create("disk", &format!("{} --bootstrap", opts(",persistent-volume-claim.requests.storage=64Mi")));
    ci.kill_daemon();
    let account = Account::make(ci.namespace(), ci.path("account"), Some("gc"));
    let rights = account.kubeconfig("kubeconfig", &json!({ "token": account.token() }));
    let kept = anna.create("kept", &format!("{} --bootstrap", opts(",ttl=never")));
    anna.create("left", &format!("{} --bootstrap", opts("")));
    anna.buildfleet("rm left --keep-daemon").succeeds();
    ci.namespace().kubectl("create deployment stock0 --image=docker.io/moby/buildkit:buildx-stable-1").succeeds();

    let gc = |words: &str| anna.buildfleet(&format!("gc --namespace {namespace} {words}"));
    gc("--ttl 5m").fails().says("--ttl: `5m` is less than 30m");
    gc("").succeeds().says("neither it nor --ttl says for how long it is kept").says_nothing_of("removed ");
    gc("--ttl 24h").succeeds().says("its ttl is 24h").says_nothing_of("removed ");
    let anywhere = anna.buildfleet("gc --all-namespaces --ttl 1000h --dry-run").succeeds();
    anywhere.says(namespace).says("deployment job0").says_nothing_of("stock0");

    let before = ci.namespace().objects();
    let (short, dry) = ("--ttl 1s --force", "--ttl 1s --force --dry-run --format json");
    let planned = wait_for("a second without a note", seconds(5), || {
        let planned = gc(dry).succeeds().json_lines();
        let due = planned.iter().filter(|found| found["Result"] == "due").count();
        (due == 6).then_some(planned)
    });
    assert_eq!(ci.namespace().objects(), before);
    let result = |object: &str| {
        let found = planned.iter().find(|found| found["Object"] == object);
        found.map(|found| found["Result"].as_str().unwrap_or_default().to_owned())
    };
    let expected = [
        ("deployment job0", "due"),
        ("secret job0-tls", "due"),
        ("poddisruptionbudget job0", "due"),
        ("statefulset disk0", "due"),
        ("persistentvolumeclaim buildkitd-disk0-0", "due"),
        ("deployment kept0", "stays"),
        ("deployment left0", "stays"),
    ];
    for (object, wanted) in expected {
        assert_eq!(result(object).as_deref(), Some(wanted), "{object}: {planned:#?}");
    }
    assert_eq!(result("deployment stock0"), None, "what buildfleet did not make is not its own to judge");
    // With the rights that the documentation names, and no others.
    gc(short)
        .arg("--kubeconfig")
        .arg(&rights)
        .succeeds()
        .says("removed")
        .says("deployment job0")
        .says("its ttl is never")
        .says("on purpose");
    wait_for("the end of what was collected", seconds(45), || {
        let left = ci.namespace().objects();
        (!left.iter().any(|name| name.contains("job0") || name.contains("disk0"))).then_some(())
    });
    kept.buildctl(&anna.contexts().hello(), "").succeeds();
    let left = ci.namespace().objects();
    for stays in ["deployment/kept0", "deployment/left0", "deployment/stock0", "secret/kept0-tls"] {
        assert!(left.contains(&stays.to_owned()), "{stays}: {left:?}");
    }
}

#[test]
fn the_documented_cron_job_is_one_that_the_cluster_takes() {
    let scene = Scene::kube();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sharing.md");
    let document = fs::read_to_string(path).expect("the documentation is in the repository");
    let (_, rest) = document.split_once("```yaml\n").expect("a manifest");
    let (manifest, _) = rest.split_once("```").expect("the fence is closed");
    let file = scene.path("cronjob.yaml");
    let namespace = scene.namespace().name();
    fs::write(&file, manifest.replace("namespace: builds", &format!("namespace: {namespace}")))
        .expect("a file of our own");
    let applied = scene.namespace().kubectl("apply --dry-run=server --output name --filename").arg(&file).succeeds();
    applied
        .says("cronjob.batch/buildfleet-gc")
        .says("role.rbac.authorization.k8s.io/buildfleet-gc")
        .says("serviceaccount/buildfleet-gc");
    // The command in it is one that this program takes.
    let container: String = manifest.lines().filter(|line| line.trim_start().starts_with("args:")).collect();
    let args = container.trim().trim_start_matches("args: [").trim_end_matches(']').replace(',', "");
    assert!(args.starts_with("gc "), "{args}");
    scene.buildfleet(&format!("{args} --dry-run --namespace {namespace}")).succeeds();
}
