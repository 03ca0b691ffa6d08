//! The guide of buildx's kubernetes driver, word for word but for its placeholders: the namespace is the test's own, because
//! a test may have a namespace to itself only by another name, and `<user>/<image>` is an image of a registry of ours.

use std::fs;
use std::path::Path;

use super::{installed, real};
use crate::support::call::Outcome;
use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::UNAME;
use crate::support::oci::platforms_of_index;
use crate::support::scene::Scene;
use crate::support::service::Registry;
use crate::support::tools::cluster;

const CREATE: &str = r"docker buildx create \
  --bootstrap \
  --name=kube \
  --driver=kubernetes \
  --driver-opt=namespace=buildkit";

const BUILD: &str = r"docker buildx build . \
  --builder=kube \
  -t <user>/<image> \
  --push";

const BUILD_EMULATED: &str = r"docker buildx build . \
  --builder=kube \
  --platform=linux/amd64,linux/arm64 \
  -t <user>/<image> \
  --push";

const INSTALL_QEMU: &str = r"docker buildx create \
  --bootstrap \
  --name=kube \
  --driver=kubernetes \
  --driver-opt=namespace=buildkit,qemu.install=true";

const SCALE: &str = r"docker buildx create \
  --bootstrap \
  --name=kube \
  --driver=kubernetes \
  --driver-opt=namespace=buildkit,replicas=4";

const NATIVE: &str = r#"docker buildx create \
  --bootstrap \
  --name=kube \
  --driver=kubernetes \
  --platform=linux/amd64 \
  --node=builder-amd64 \
  --driver-opt=namespace=buildkit,nodeselector="kubernetes.io/arch=amd64""#;

const APPEND: &str = r#"docker buildx create \
  --append \
  --bootstrap \
  --name=kube \
  --driver=kubernetes \
  --platform=linux/arm64 \
  --node=builder-arm64 \
  --driver-opt=namespace=buildkit,nodeselector="kubernetes.io/arch=arm64""#;

const BUILD_BOTH: &str =
    "docker buildx build --builder=kube --platform=linux/amd64,linux/arm64 -t <user>/<image> --push .";

const ROOTLESS: &str = r"docker buildx create \
  --name=kube \
  --driver=kubernetes \
  --driver-opt=namespace=buildkit,rootless=true";

const GET_DEPLOYMENTS: &str = "kubectl -n buildkit get deployments";
const GET_PODS: &str = "kubectl -n buildkit get pods";

/// The guide's reader.
struct Reader<'a> {
    scene: &'a Scene,
    registry: &'a Registry,
    image: &'a str,
    context: &'a Path,
}

impl Reader<'_> {
    fn types(&self, block: &str) -> Outcome {
        let namespace = self.scene.namespace().name();
        let block = block.replace("namespace=buildkit", &format!("namespace={namespace}"));
        // The image of buildx's default is one of a registry on the internet.
        let qemu = format!("qemu.install=true,qemu.image={}", cluster().qemu_image);
        let block = block.replace("qemu.install=true", &qemu);
        let block = block.replace("-n buildkit", &format!("-n {namespace}"));
        let block = block.replace("<user>/<image>", &self.registry.image(self.image));
        let call = self.scene.shell(&block).dir(self.context).env("BUILDKIT_PROGRESS", "plain").within(seconds(120));
        // What several nodes pushed, the client itself puts together.
        call.env("SSL_CERT_FILE", self.registry.authority()).succeeds()
    }

    /// A pod is ready for builds before Kubernetes asks it.
    fn sees(&self, block: &str, words: &str, count: usize) {
        wait_for(words, seconds(30), || (self.types(block).stdout.matches(words).count() == count).then_some(()));
    }

    fn creates(&self, block: &str) {
        let created = self.types(block);
        assert_eq!(created.stdout, "kube\n", "{created}");
    }

    fn removes(&self) {
        let removed = self.types("docker buildx rm kube");
        assert_eq!((removed.stdout.as_str(), removed.stderr.as_str()), ("", "kube removed\n"));
    }

    /// The rows of `docker buildx ls` below builder kube.
    fn rows(&self) -> Vec<String> {
        let listed = self.types("docker buildx ls");
        let rows = listed.stdout.lines().skip_while(|line| !line.starts_with("kube ")).skip(1);
        let rows = rows.take_while(|line| line.starts_with(" \\_ "));
        rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

#[test]
fn the_guide_of_the_kubernetes_driver_runs_word_for_word() {
    let scene = installed(Scene::kube());
    fs::create_dir_all(scene.path("registry")).expect("a directory of our own");
    let registry = Registry::start(&scene.path("registry"));
    registry.log_in(&scene.path("docker"));
    // What a user of buildx's kubernetes driver has for such a registry, and for every builder.
    let host = registry.host();
    let config = format!("[registry.\"{host}\"]\n  ca = [\"{}\"]\n", registry.authority().display());
    fs::create_dir_all(scene.path("docker/buildx")).expect("a directory of our own");
    fs::write(scene.path("docker/buildx/buildkitd.default.toml"), config).expect("a file of our own");
    let context = scene.contexts().with("guide", UNAME);
    let mut reader = Reader { scene: &scene, registry: &registry, image: "first", context: &context };

    first_build(&reader);
    other_ways(&scene, &context);
    reader.removes();
    scene.namespace().empties();
    scale(&reader);
    reader.image = "emulated";
    emulated(&reader);
    reader.image = "both";
    native(&reader);
    rootless(&reader);
    scene.has_no_builder();
}

fn first_build(reader: &Reader<'_>) {
    reader.creates(CREATE);
    let rows = reader.rows();
    let pod = reader.scene.namespace().pods().pop().expect("a pod");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].starts_with(&format!("\\_ {pod} \\_ kubernetes:///kube?deployment=kube0")), "{rows:?}");
    assert!(rows[0].contains(" running v") && rows[0].contains("linux/amd64"), "{rows:?}");
    reader.sees(GET_DEPLOYMENTS, "kube0   1/1     1            1", 1);
    reader.types(GET_PODS).says(&pod).says("1/1     Running   0");
    reader.types(BUILD).says("pushing manifest for");
}

/// Words that lead to the plugin, too.
fn other_ways(scene: &Scene, context: &Path) {
    let typed =
        |words: &str| scene.shell(words).dir(context).env("BUILDX_BUILDER", "kube").env("BUILDKIT_PROGRESS", "plain");
    typed("docker build --no-cache .").succeeds().says("this machine is: x86_64");
    typed("docker builder du").succeeds().says("RECLAIMABLE").says("Total:");
    let file = "target \"default\" {\n  output = [\"type=cacheonly\"]\n}\n";
    fs::write(context.join("docker-bake.hcl"), file).expect("a file of our own");
    typed("docker buildx bake --no-cache").succeeds().says("this machine is: x86_64");
    typed("docker builder prune --force").succeeds().says("Total:");
    let nobody = format!("unix://{}", scene.path("nobody.sock").display());
    let load = typed("docker buildx build --load -t loaded:never .").env("DOCKER_HOST", &nobody).fails().with_code(1);
    let told = format!("ERROR: --load gives the image to docker's engine, and none answers at {nobody}");
    assert!(load.stdout.is_empty() && load.stderr.starts_with(&told) && load.stderr.lines().count() == 1, "{load}");
    // The real one shows the builder as it is registered, and is asked by the same docker.
    real(scene, "inspect kube").succeeds().says("Driver:        remote").says("linux/amd64*");
    scene.buildx("inspect kube").succeeds().says("kubernetes").says("Driver Options:").says("Pods:");
}

fn scale(reader: &Reader<'_>) {
    reader.creates(SCALE);
    reader.sees(GET_DEPLOYMENTS, "kube0   4/4     4            4", 1);
    reader.sees(GET_PODS, "1/1     Running   0", 4);
    let rows = reader.rows();
    assert!(rows.len() == 4 && rows.iter().all(|row| row.contains(" running ")), "{rows:?}");
    reader.removes();
}

fn emulated(reader: &Reader<'_>) {
    reader.creates(INSTALL_QEMU);
    let built = reader.types(BUILD_EMULATED).says("this machine is: x86_64").says("this machine is: aarch64");
    built.says("pushing manifest for");
    let raw = reader.types("docker buildx imagetools inspect --raw <user>/<image>").json();
    assert_eq!(platforms_of_index(&raw), ["linux/amd64", "linux/arm64"]);
    reader.removes();
}

fn native(reader: &Reader<'_>) {
    let scene = reader.scene;
    reader.creates(NATIVE);
    reader.creates(APPEND);
    let rows = reader.rows();
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (row, arch) in rows.iter().zip(["amd64", "arm64"]) {
        assert!(row.contains(&format!("kubernetes:///kube?deployment=builder-{arch}")), "{rows:?}");
        assert!(row.contains(" running ") && row.contains(&format!("linux/{arch}*")), "{rows:?}");
    }
    reader.types("docker buildx inspect kube --bootstrap").says("builder-amd64").says("builder-arm64");
    reader.types(BUILD_BOTH).says("this machine is: x86_64").says("this machine is: aarch64").says("manifest list");
    let inspected = reader.types("docker buildx imagetools inspect <user>/<image>");
    inspected.says("Platform:    linux/amd64").says("Platform:    linux/arm64");
    let raw = reader.types("docker buildx imagetools inspect --raw <user>/<image>").json();
    assert_eq!(platforms_of_index(&raw), ["linux/amd64", "linux/arm64"]);
    // Each platform was built in the pod of its own machine.
    let placed = scene.buildfleet("inspect kube --placement --format json").succeeds().json();
    for (at, machine) in ["node-amd64", "node-arm64"].iter().enumerate() {
        let pod = placed["Nodes"][at]["Placement"]["Latest"][0]["Pod"].as_str().expect("a build").to_owned();
        assert_eq!(scene.namespace().machine_of(&pod), *machine, "{placed:#}");
    }
    let left = reader.types("docker buildx create --leave --name kube --node builder-arm64");
    assert_eq!((left.stdout.as_str(), left.stderr.as_str()), ("", ""));
    reader.types("docker buildx ls").says("builder-amd64").says_nothing_of("builder-arm64");
    reader.removes();
}

fn rootless(reader: &Reader<'_>) {
    reader.creates(ROOTLESS);
    let rows = reader.rows();
    assert!(rows.len() == 1 && rows[0].starts_with("\\_ kube0 "), "nothing runs yet: {rows:?}");
    reader.types("docker buildx inspect --bootstrap kube").says("rootless=\"true\"");
    // Others may still be on their way out.
    let pod = reader.scene.builder("kube").has_ready(1).pop().expect("a pod");
    let container = reader.scene.namespace().pod(&pod)["spec"]["containers"][0].clone();
    assert!(container["securityContext"]["privileged"].as_bool() != Some(true), "{container:#}");
    reader.removes();
    reader.scene.namespace().empties();
}
