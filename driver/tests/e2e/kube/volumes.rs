//! Nodes whose state outlives their pods: volumes that stay, grow, and are taken up again.

use std::fs;

use serde_json::{Value, json};

use crate::support::builder::Builder;
use crate::support::call::{Call, Outcome};
use crate::support::scene::Scene;
use crate::support::tools::cluster;

/// A storage class with a volume of 10Gi, which the cluster has for one test.
#[derive(Debug)]
struct Disk {
    name: String,
}

impl Disk {
    fn make(scene: &Scene, expands: bool) -> Self {
        let name = format!("{}-disk", scene.namespace().name());
        let dir = scene.path("disk");
        fs::create_dir_all(&dir).expect("a directory of our own");
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner", "allowVolumeExpansion": expands,
        });
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name,
                "hostPath": {"path": dir}, "persistentVolumeReclaimPolicy": "Retain",
            },
        });
        for (file, object) in [("class.json", class), ("disk.json", volume)] {
            let file = scene.path(file);
            fs::write(&file, object.to_string()).expect("a file of our own");
            Call::new(&cluster().kubectl).words("create --filename").arg(&file).succeeds();
        }
        Self { name }
    }

    fn opts(&self, scene: &Scene, size: &str) -> String {
        let (namespace, class) = (scene.namespace().name(), &self.name);
        format!(
            "--driver kubernetes --driver-opt namespace={namespace},storageclass={class},\
             persistent-volume-claim.requests.storage={size}"
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for kind in ["persistentvolume", "storageclass"] {
            let deleted = Call::new(&cluster().kubectl).words("delete --wait=false").arg(kind).arg(&self.name).end();
            if !deleted.is_success() {
                eprintln!("the {kind} is left: {deleted}");
            }
        }
    }
}

fn storage(scene: &Scene) -> Vec<Value> {
    let claims = scene.namespace().kubectl("get persistentvolumeclaims --output json").succeeds().json();
    let claims = claims["items"].as_array().expect("a list").clone();
    claims.iter().map(|claim| claim["spec"]["resources"]["requests"]["storage"].clone()).collect()
}

fn again(scene: &Scene, opts: &str) -> Call {
    scene.buildfleet("create --name kube --node kube0").words(opts)
}

fn cached(scene: &Scene, builder: &Builder<'_>) -> Outcome {
    builder.buildctl(&scene.contexts().hello(), "").succeeds()
}

#[test]
fn kept_state_is_taken_up_again_and_else_everything_goes() {
    let scene = Scene::kube();
    let disk = Disk::make(&scene, true);
    let builder = scene.create("kube", &format!("{} --bootstrap", disk.opts(&scene, "1Gi")));
    cached(&scene, &builder).says("machine: x86_64");
    let claims = scene.namespace().objects().into_iter().filter(|name| name.starts_with("persistentvolumeclaim"));
    let claims: Vec<String> = claims.collect();
    assert_eq!(claims, ["persistentvolumeclaim/buildkitd-kube0-0"]);

    let told = scene.buildfleet("rm kube --keep-state").succeeds();
    told.says("persistentvolumeclaim buildkitd-kube0-0");
    scene.has_no_builder();
    let left = scene.namespace().objects();
    assert!(left.iter().all(|name| claims.contains(name) || name.starts_with("pod/")), "{left:?}");
    let builder = scene.create("kube", &format!("{} --bootstrap", disk.opts(&scene, "1Gi")));
    cached(&scene, &builder).says("CACHED").says_nothing_of("machine: x86_64");
    builder.remove();
    scene.namespace().empties();
}

#[test]
fn volumes_grow_under_their_pods_and_what_cannot_change_is_said_before() {
    let scene = Scene::kube();
    let disk = Disk::make(&scene, true);
    let builder = scene.create("kube", &format!("{} --bootstrap", disk.opts(&scene, "1Gi")));
    cached(&scene, &builder).says("machine: x86_64");
    let pod = builder.ready_pods();
    let grown = again(&scene, &disk.opts(&scene, "2Gi")).succeeds();
    grown.says("persistentvolumeclaim buildkitd-kube0-0:\n-storage: 1Gi\n+storage: 2Gi\n");
    assert_eq!(storage(&scene), ["1Gi"], "it grows with the next start");
    builder.bootstrap();
    assert_eq!(storage(&scene), ["2Gi"]);
    // The pod was not replaced for it.
    assert_eq!(builder.has_ready(1), pod);
    cached(&scene, &builder).says("CACHED");
    let set = scene.namespace().kubectl("get statefulset kube0 --output json").succeeds().json();
    let asked = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
    assert_eq!(asked, "2Gi");

    let namespace = scene.namespace().name();
    let shrunk = again(&scene, &disk.opts(&scene, "1Gi")).fails();
    shrunk.says("cannot change: they have 2Gi and cannot shrink to 1Gi").says("hint: ");
    let other = disk.opts(&scene, "2Gi").replace(&format!("storageclass={}", disk.name), "storageclass=other");
    again(&scene, &other).fails().says("their storage class is").says("not `other`");
    let without = format!("--driver kubernetes --driver-opt namespace={namespace}");
    again(&scene, &without).fails().says("keeps its state in volumes (buildkitd-kube0-0)");
    // Nothing of it was stored.
    assert_eq!(builder.node(0)["DriverOpts"]["persistent-volume-claim.requests.storage"], "2Gi");
    builder.remove();
    scene.namespace().empties();
}

#[test]
fn a_storage_class_that_cannot_expand_says_so_before_anything_is_stored() {
    let scene = Scene::kube();
    let disk = Disk::make(&scene, false);
    let builder = scene.create("kube", &format!("{} --bootstrap", disk.opts(&scene, "1Gi")));
    let refused = again(&scene, &disk.opts(&scene, "2Gi")).fails();
    refused.says("does not expand volumes").says(&disk.name);
    assert_eq!(builder.node(0)["DriverOpts"]["persistent-volume-claim.requests.storage"], "1Gi");
    builder.remove();
    scene.namespace().empties();
}

#[test]
fn a_node_without_volumes_gets_them_and_its_deployment_goes() {
    let scene = Scene::kube();
    let disk = Disk::make(&scene, true);
    let namespace = scene.namespace().name();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap"));
    let told = again(&scene, &format!("{} --bootstrap", disk.opts(&scene, "1Gi"))).succeeds();
    told.says("deployment kube0:\n@@ ").says("statefulset kube0:\n@@ -0,0 +1,");
    let objects = scene.namespace().objects();
    assert!(objects.contains(&"statefulset/kube0".to_owned()), "{objects:?}");
    assert!(!objects.contains(&"deployment/kube0".to_owned()), "{objects:?}");
    assert_eq!(builder.has_ready(1), ["kube0-0"]);
    cached(&scene, &builder).says("machine: x86_64");
    builder.remove();
    scene.namespace().empties();
}
