//! Where the real programs are, and what to do when one is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::call::Call;
use super::clock::seconds;

/// The program under test.
pub(crate) const BUILDFLEET: &str = env!("CARGO_BIN_EXE_buildfleet");

/// The programs that are not ours.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) buildkitd: PathBuf,
    pub(crate) buildctl: PathBuf,
    pub(crate) runc: PathBuf,
    pub(crate) docker: PathBuf,
    pub(crate) docker_buildx: PathBuf,
}

/// The stock programs. Fails the test when one is missing.
pub(crate) fn tools() -> &'static Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    TOOLS.get_or_init(|| Tools {
        buildkitd: program("buildkitd"),
        buildctl: program("buildctl"),
        runc: program("runc"),
        docker: program("docker"),
        docker_buildx: program("docker-buildx"),
    })
}

pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

pub(crate) fn program(name: &str) -> PathBuf {
    on_path(name).unwrap_or_else(|| {
        panic!("no {name} on PATH: `scripts/cluster build` makes it, and `scripts/cluster sh` runs the tests with it on PATH")
    })
}

/// A program that `scripts/cluster build` has unpacked from a package of Debian, or that is installed.
pub(crate) fn of_package(package: &str, program: &str) -> PathBuf {
    let unpacked = env::var_os("BUILDFLEET_RIG").map(|rig| Path::new(&rig).join("deb").join(package).join("usr/bin"));
    let unpacked = unpacked.map(|dir| dir.join(program));
    unpacked.filter(|file| file.is_file()).or_else(|| on_path(program)).unwrap_or_else(|| {
        panic!(
            "no {program}, neither on PATH nor below $BUILDFLEET_RIG: `scripts/cluster build debian` unpacks it, and \
             `scripts/cluster sh` runs the tests with the variable set; `apt-get install {package}` installs it"
        )
    })
}

/// A real cluster, with the images that its pods need and a registry.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) kubectl: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// `host:port`
    pub(crate) registry: String,
    pub(crate) qemu_image: String,
}

/// The cluster. Fails the test when it is not there.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster {
            kubectl: program("kubectl"),
            kubeconfig: variable("KUBECONFIG").into(),
            registry: variable("BUILDFLEET_RIG_REGISTRY"),
            qemu_image: variable("BUILDFLEET_RIG_QEMU_IMAGE"),
        };
        let nodes = Call::new(&cluster.kubectl).words("get nodes -o name").within(seconds(20)).end();
        assert!(
            nodes.is_success() && nodes.stdout.contains("node/node-amd64") && nodes.stdout.contains("node/node-arm64"),
            "the cluster with node-amd64 and node-arm64 does not answer: run `scripts/cluster up`, and the tests by \
             `scripts/cluster sh`, in its network: {nodes}"
        );
        cluster
    })
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `scripts/cluster up`, and the tests by `scripts/cluster sh`, which sets it")
    })
}

/// What leads a pod to the API server: the service's own address has no kube-proxy here.
pub(crate) fn service_environment() -> Vec<serde_json::Value> {
    let endpoint = |name: &str, field: &str| {
        let path = format!("--output=jsonpath={{.subsets[0]{field}}}");
        let get = Call::new(&cluster().kubectl).words("get endpoints kubernetes --namespace default").arg(path);
        serde_json::json!({ "name": name, "value": get.succeeds().word() })
    };
    vec![endpoint("KUBERNETES_SERVICE_HOST", ".addresses[0].ip"), endpoint("KUBERNETES_SERVICE_PORT", ".ports[0].port")]
}

/// A script of the repository.
pub(crate) fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(path)
}

/// A copy of the cluster's own kubeconfig, which has one context, with something changed in it.
pub(crate) fn changed_kubeconfig(file: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let view = Call::new(&cluster().kubectl).words("config view --raw --minify --output json");
    let mut config = view.succeeds().json();
    change(&mut config);
    std::fs::write(file, config.to_string()).expect("a file of our own");
}
