//! One builder of a scene, in the words of the tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::call::{Call, Outcome};
use super::clock::{seconds, wait_for};
use super::scene::Scene;

/// A builder by its name.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    scene: &'a Scene,
    name: &'static str,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(scene: &'a Scene, name: &'static str) -> Self {
        Self { scene, name }
    }

    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// As a user would ask for it; starts the daemon when none runs.
    pub(crate) fn address(&self) -> String {
        self.scene.buildfleet(&format!("socket {}", self.name)).succeeds().word().to_owned()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        PathBuf::from(self.address().strip_prefix("unix://").expect("a unix socket"))
    }

    /// `buildctl build` of a Dockerfile through the builder's socket.
    pub(crate) fn buildctl(&self, context: &Path, words: &str) -> Call {
        let local = |name: &str| format!("{name}={}", context.display());
        let call = self.scene.buildctl("--addr").arg(self.address());
        let call = call.words("build --progress=plain --frontend dockerfile.v0");
        call.arg("--local").arg(local("context")).arg("--local").arg(local("dockerfile")).words(words)
    }

    /// `docker buildx build` through what `create` registered.
    pub(crate) fn buildx(&self, context: &Path, words: &str) -> Call {
        let call = self.scene.buildx(&format!("build --builder {} --progress=plain", self.name));
        call.words(words).arg(context)
    }

    pub(crate) fn inspect(&self) -> Value {
        self.scene.buildfleet(&format!("inspect {} --format json", self.name)).succeeds().json()
    }

    pub(crate) fn node(&self, index: usize) -> Value {
        self.inspect()["Nodes"][index].clone()
    }

    /// The pods of all nodes.
    pub(crate) fn pods(&self) -> Vec<Value> {
        let nodes = self.inspect()["Nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().flat_map(|node| node["Pods"].as_array().cloned().unwrap_or_default()).collect()
    }

    pub(crate) fn ready_pods(&self) -> Vec<String> {
        let pods = self.pods();
        let ready = pods.iter().filter(|pod| pod["Status"] == "ready");
        ready.map(|pod| pod["Name"].as_str().expect("a name").to_owned()).collect()
    }

    /// The pods that have a build.
    pub(crate) fn busy_pods(&self) -> Vec<String> {
        let pods = self.pods();
        let busy = pods.iter().filter(|pod| pod["Builds"].as_u64().is_some_and(|builds| builds > 0));
        busy.map(|pod| pod["Name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Waits until this many pods are ready.
    pub(crate) fn has_ready(&self, wanted: usize) -> Vec<String> {
        wait_for(&format!("{wanted} ready pods of {}", self.name), seconds(40), || {
            let ready = self.ready_pods();
            (ready.len() == wanted).then_some(ready)
        })
    }

    pub(crate) fn status(&self) -> String {
        self.node(0)["Status"].as_str().expect("a status").to_owned()
    }

    pub(crate) fn bootstrap(&self) -> Outcome {
        self.scene.buildfleet(&format!("inspect {} --bootstrap", self.name)).succeeds()
    }

    pub(crate) fn stop(&self) {
        self.scene.buildfleet(&format!("stop {}", self.name)).succeeds();
    }

    pub(crate) fn remove(&self) -> Duration {
        self.scene.buildfleet(&format!("rm {}", self.name)).succeeds().took
    }
}
