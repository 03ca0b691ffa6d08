//! The image of the daemon: built by a builder of ours, run without root in a pod, and builds go through it.

use std::fs;
use std::path::Path;

use crate::package::archive;
use crate::support::account::Account;
use crate::support::call::Call;
use crate::support::clock::seconds;
use crate::support::registry;
use crate::support::scene::Scene;
use crate::support::tools::{cluster, service_environment};

/// As its documentation has it, with what is another here.
fn run_documented_pod(scene: &Scene, image: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/image/pod.yaml");
    // kubectl reads YAML for us.
    let read = Call::new(&cluster().kubectl).words("create --dry-run=client --output json --filename").arg(file);
    let mut pod = read.succeeds().json();
    pod["metadata"]["namespace"] = scene.namespace().name().into();
    pod["spec"]["containers"][0]["image"] = image.into();
    let environment = pod["spec"]["containers"][0]["env"].as_array_mut().expect("an environment");
    environment.extend(service_environment());
    // The programs of the image are for this machine, and its twin only says that it is another.
    pod["spec"]["nodeSelector"] = serde_json::json!({ "kubernetes.io/arch": "amd64" });
    pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
    let file = scene.path("pod.json");
    fs::write(&file, pod.to_string()).expect("a file of our own");
    scene.namespace().kubectl("create --filename").arg(&file).succeeds();
    scene.namespace().kubectl("wait --for=condition=Ready --timeout=60s pod/ci").succeeds();
}

#[test]
fn the_image_is_built_by_a_builder_and_its_daemon_builds_in_a_pod_without_root() {
    let scene = Scene::kube();
    let account = Account::make(scene.namespace(), scene.path("account"), None);
    let config = scene.path("buildkitd.toml");
    fs::write(&config, format!("[registry.\"{}\"]\n  http = true\n", cluster().registry)).expect("a file of our own");
    let namespace = scene.namespace().name();
    let options =
        format!("--driver kubernetes --driver-opt namespace={namespace} --buildkitd-config {}", config.display());
    let builder = scene.create("outside", &options);

    let image = registry::image("buildfleet");
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/image/Dockerfile");
    let build = format!(
        "--build-context certificates=/etc/ssl/certs --file {} --tag {image} --provenance=false --push",
        dockerfile.display()
    );
    builder.buildx(archive().parent().expect("it is in a folder"), &build).succeeds();
    builder.remove();

    run_documented_pod(&scene, &image);
    let daemon = |words: &str| scene.namespace().kubectl("exec ci --container buildfleet -- buildfleet").words(words);
    daemon("version").succeeds().says(env!("CARGO_PKG_VERSION"));
    daemon("create --name kube --driver kubernetes --bootstrap").succeeds().faster_than(seconds(60));
    let nodes = daemon("inspect kube --format json").succeeds().json()["Nodes"].clone();
    assert_eq!(nodes[0]["Pods"][0]["Status"], "ready", "{nodes:#}");
    let socket = daemon("socket kube").succeeds().word().to_owned();
    assert_eq!(socket, "unix:///sockets/run/builders/kube.sock");

    let build = format!(
        "mkdir /sockets/hello && cp /bin/busybox /sockets/hello && \
         printf 'FROM scratch\\nCOPY busybox /bin/busybox\\nRUN [\"/bin/busybox\",\"uname\",\"-m\"]\\n' >/sockets/hello/Dockerfile && \
         buildctl --addr {socket} build --progress=plain --frontend dockerfile.v0 \
         --local context=/sockets/hello --local dockerfile=/sockets/hello"
    );
    scene.namespace().kubectl("exec ci --container client -- sh -c").arg(build).succeeds().says("x86_64");

    daemon("rm kube").succeeds();
    scene.namespace().kubectl("delete pod ci").succeeds();
    account.remove();
    scene.namespace().empties();
}
