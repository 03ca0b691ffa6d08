//! A namespace of the cluster for one test, deleted at its end.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::api::api;
use super::call::Call;
use super::clock::{seconds, wait_for};
use super::processes::{self, Process};
use super::tools::{Cluster, cluster};

/// All kinds that a builder could leave behind: what `kubectl` calls one, and where they are listed.
const KINDS: [(&str, &str, &str); 11] = [
    ("deployment", "apis/apps/v1", "deployments"),
    ("statefulset", "apis/apps/v1", "statefulsets"),
    ("job", "apis/batch/v1", "jobs"),
    ("replicaset", "apis/apps/v1", "replicasets"),
    ("pod", "api/v1", "pods"),
    ("service", "api/v1", "services"),
    ("secret", "api/v1", "secrets"),
    ("configmap", "api/v1", "configmaps"),
    ("serviceaccount", "api/v1", "serviceaccounts"),
    ("poddisruptionbudget.policy", "apis/policy/v1", "poddisruptionbudgets"),
    ("persistentvolumeclaim", "api/v1", "persistentvolumeclaims"),
];

/// What each namespace has from its beginning.
const OF_THE_CLUSTER: [&str; 2] = ["configmap/kube-root-ca.crt", "serviceaccount/default"];

fn name_in(metadata: &Value) -> String {
    metadata["name"].as_str().expect("a name").to_owned()
}

/// A namespace that exists.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    cluster: &'static Cluster,
}

impl Namespace {
    pub(crate) fn make() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self::named(&format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Fails when there is one of that name: it belongs to somebody.
    pub(crate) fn named(name: &str) -> Self {
        let cluster = cluster();
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        api().create("/api/v1/namespaces", &object);
        let namespace = Self { name: name.to_owned(), cluster };
        // No pod can be created before: what a test measures is not the cluster's own start.
        wait_for("the default service account", seconds(20), || {
            api().get(&namespace.path("api/v1", "serviceaccounts/default"))
        });
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// In this namespace.
    pub(crate) fn kubectl(&self, words: &str) -> Call {
        Call::new(&self.cluster.kubectl).arg("--namespace").arg(&self.name).words(words)
    }

    fn path(&self, group: &str, what: &str) -> String {
        format!("/{group}/namespaces/{}/{what}", self.name)
    }

    /// `kind/name` of each object, without what the cluster itself puts into every namespace.
    pub(crate) fn objects(&self) -> Vec<String> {
        self.with_metadata().into_iter().map(|(name, _)| name).collect()
    }

    fn with_metadata(&self) -> Vec<(String, Value)> {
        let lists = api().lists(&KINDS.map(|(_, group, list)| self.path(group, list)));
        let all = KINDS.iter().zip(lists).flat_map(|((kind, ..), list)| {
            list.into_iter().map(move |metadata| (format!("{kind}/{}", name_in(&metadata)), metadata))
        });
        all.filter(|(name, _)| !OF_THE_CLUSTER.contains(&name.as_str())).collect()
    }

    /// Nothing is there, or is on its way out: a pod may take its time, and the cluster collects what was somebody's.
    pub(crate) fn empties(&self) {
        let goes = |metadata: &Value| metadata.get("deletionTimestamp").or(metadata.get("ownerReferences")).is_some();
        let kept = self.with_metadata().into_iter().filter(|(_, metadata)| !goes(metadata));
        let kept: Vec<String> = kept.map(|(name, _)| name).collect();
        assert!(kept.is_empty(), "objects are left: {kept:?}");
        // The pods first: all lists are eleven questions, and pods go last.
        let is_empty = || self.pods().is_empty() && self.objects().is_empty();
        wait_for("the end of the pods", seconds(45), || is_empty().then_some(()));
    }

    /// Names of the pods, oldest state of the API server or not.
    pub(crate) fn pods(&self) -> Vec<String> {
        api().lists(&[self.path("api/v1", "pods")]).remove(0).iter().map(name_in).collect()
    }

    pub(crate) fn pod(&self, name: &str) -> Value {
        let pod = api().get(&self.path("api/v1", &format!("pods/{name}")));
        pod.unwrap_or_else(|| panic!("there is no pod {name}"))
    }

    /// Deletes a pod by force: nobody waits for its end, and the kubelet kills it.
    pub(crate) fn kill(&self, pod: &str) {
        let killed = api().delete(&self.path("api/v1", &format!("pods/{pod}?gracePeriodSeconds=0")));
        assert!(killed.is_some(), "there is no pod {pod}");
    }

    /// The machine that a pod runs on.
    pub(crate) fn machine_of(&self, pod: &str) -> String {
        self.pod(pod)["spec"]["nodeName"].as_str().expect("a scheduled pod").to_owned()
    }

    /// The pid on this machine of the `buildkitd` that a pod runs.
    pub(crate) fn buildkitd_of(&self, pod: &str) -> i32 {
        let uid = self.pod(pod)["metadata"]["uid"].as_str().expect("a uid").to_owned();
        // Not a `buildctl` beside it, whose address has the name, too.
        let is_its = |process: &Process| process.is_program("buildkitd") && process.is_in_group(&uid);
        let buildkitd = processes::that_run("buildkitd").into_iter().find(is_its);
        buildkitd.expect("the pod's buildkitd runs on this machine").pid
    }

    /// For the reader of a failure.
    pub(crate) fn show(&self) {
        for words in ["get all", "get events --sort-by=.lastTimestamp", "describe pods"] {
            eprintln!("=== kubectl {words}\n{}", self.kubectl(words).end());
        }
        let pods = self.kubectl("get pods --output name").end();
        for pod in pods.stdout.lines() {
            eprintln!("{}", self.kubectl("logs --all-containers --tail 100").arg(pod).end());
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Without a second panic in a test that fails.
        let delete = || api().delete(&format!("/api/v1/namespaces/{}", self.name));
        if std::panic::catch_unwind(delete).is_err() {
            eprintln!("the namespace {} is left", self.name);
        }
    }
}
