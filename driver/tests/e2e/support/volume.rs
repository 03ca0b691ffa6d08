//! A persistent volume of the cluster for one test: the rig provides none by itself.

use std::fs;

use serde_json::json;

use super::call::Call;
use super::scene::Scene;
use super::tools::cluster;

/// A volume that exists, of 1Gi.
#[derive(Debug)]
pub(crate) struct Volume {
    name: String,
}

impl Volume {
    /// In a directory of the machine that both nodes are on, which belongs to root as a fresh disk does.
    pub(crate) fn make(scene: &Scene) -> Self {
        let name = format!("{}-volume", scene.namespace().name());
        let dir = scene.path("volume");
        fs::create_dir_all(&dir).expect("a directory of our own");
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": name },
            "spec": {
                "capacity": { "storage": "1Gi" },
                "accessModes": ["ReadWriteOnce"],
                "hostPath": { "path": dir },
                "persistentVolumeReclaimPolicy": "Retain",
            },
        });
        let file = scene.path("volume.json");
        fs::write(&file, volume.to_string()).expect("a file of our own");
        Call::new(&cluster().kubectl).words("create --filename").arg(&file).succeeds();
        Self { name }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let deleted = Call::new(&cluster().kubectl).words("delete persistentvolume --wait=false").arg(&self.name).end();
        if !deleted.is_success() {
            eprintln!("the volume is left: {deleted}");
        }
    }
}
