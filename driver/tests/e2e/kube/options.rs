//! What options do in real pods.

use std::fs;

use serde_json::{Value, json};

use crate::support::builder::Builder;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;
use crate::support::volume::Volume;

/// A label that only a `buildkitd` with this configuration reports.
fn labelled(scene: &Scene, label: &str) -> String {
    let file = scene.path(&format!("{label}.toml"));
    fs::write(&file, format!("[worker.oci.labels]\n  \"configured\" = \"{label}\"\n")).expect("a directory of our own");
    format!("--buildkitd-config {}", file.display())
}

fn label(builder: &Builder<'_>) -> Value {
    builder.node(0)["Labels"]["configured"].clone()
}

#[test]
fn pods_read_their_configuration_whoever_they_run_as_and_another_one_replaces_them() {
    for kind in ["rootless=false", "rootless=true", "hostusers=false"] {
        let scene = Scene::kube();
        let opts = format!("--driver kubernetes --driver-opt namespace={},{kind}", scene.namespace().name());
        let builder = scene.create("told", &format!("{opts} {} --bootstrap", labelled(&scene, "first")));
        assert_eq!(label(&builder), "first", "{kind}");
        let pod = builder.has_ready(1).remove(0);
        let again = labelled(&scene, "second");
        scene.buildfleet(&format!("create --name told --node told0 {again} --bootstrap")).succeeds();
        wait_for("the pod with the second configuration", seconds(40), || {
            let pods = builder.ready_pods();
            (label(&builder) == "second" && !pods.is_empty() && !pods.contains(&pod)).then_some(())
        });
        builder.remove();
    }
}

#[test]
fn a_rootless_pod_can_write_to_a_fresh_volume() {
    let scene = Scene::kube();
    let _volume = Volume::make(&scene);
    let volume = "persistent-volume-claim.requests.storage=1Gi,storageclass=,volume-access-mode=ReadWriteOnce";
    let opts = format!("namespace={},rootless=true,{volume}", scene.namespace().name());
    let builder = scene.create("kept", &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    let context = scene.contexts().with("kept", "RUN mkdir /made && stat -c 'made with %a' /made\n");
    // The setgid bit of a volume would be in the image.
    builder.buildctl(&context, "").succeeds().says("made with 755");
    builder.remove();
}

#[test]
fn what_buildx_has_no_option_for_is_what_the_cluster_takes() {
    let scene = Scene::kube();
    let namespace = scene.namespace();
    namespace.kubectl("create quota nothing-runs --hard=pods=0").succeeds();
    let patch = scene.path("patch.yaml");
    let text = "spec: {template: {spec: {dnsPolicy: Default, containers: [{name: buildkitd, readinessProbe: null}]}}}";
    fs::write(&patch, text).expect("a directory of our own");
    let create = ["imagepullsecrets=regcred", "priorityclass=high", "runtimeclass=kata", "hostusers=false"]
        .into_iter()
        .chain([
            "poddisruptionbudget=minAvailable=50%",
            "\"annotations.example.com/note=a,b=c\"",
            "\"topologyspread={maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}\"",
            "\"affinity={podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, \
              podAffinityTerm: {topologyKey: kubernetes.io/hostname}}]}}\"",
        ])
        .map(str::to_owned)
        .chain([format!("namespace={}", namespace.name()), format!("manifest-patch=@{}", patch.display())])
        .fold(scene.buildfleet("create --name beyond --driver kubernetes"), |call, opt| {
            call.arg("--driver-opt").arg(opt)
        });
    create.succeeds();
    let _waits = scene.buildfleet("inspect beyond --bootstrap").start();
    let get = |what: &str| namespace.kubectl("get --output json").words(what).end();
    let deployment = wait_for("the disruption budget, which comes last", seconds(30), || {
        let budget = get("poddisruptionbudget beyond0");
        budget.is_success().then(|| {
            assert_eq!(budget.json()["spec"]["minAvailable"], "50%");
            get("deployment beyond0").succeeded().json()
        })
    });
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["example.com/note"], "a,b=c");
    let pod = &template["spec"];
    for (path, wanted) in [
        ("/hostUsers", json!(false)),
        ("/imagePullSecrets/0/name", json!("regcred")),
        ("/priorityClassName", json!("high")),
        ("/runtimeClassName", json!("kata")),
        ("/dnsPolicy", json!("Default")),
        ("/topologySpreadConstraints/0/labelSelector/matchLabels/app", json!("beyond0")),
        ("/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight", json!(1)),
    ] {
        assert_eq!(pod.pointer(path), Some(&wanted), "{path}");
    }
    assert_eq!(pod["containers"][0]["readinessProbe"], Value::Null);
}
