//! Every kind in each mode builds and pushes, by the commands that BuildKit's own examples give for it.

use std::fs;
use std::path::Path;

use crate::support::call::Outcome;
use crate::support::clock::{seconds, wait_for};
use crate::support::pki::Pki;
use crate::support::scene::Scene;
use crate::support::service::{Registry, Web};
use crate::support::tools::cluster;

#[test]
fn every_kind_builds_in_privileged_pods() {
    every_kind_builds("privileged");
}

#[test]
fn every_kind_builds_in_rootless_pods() {
    every_kind_builds("rootless");
}

#[test]
fn every_kind_builds_in_pods_with_user_namespaces_of_their_own() {
    every_kind_builds("userns");
}

/// What all kinds have at hand.
struct Place {
    /// A process in the scene's directory: it ends before the scene does.
    registry: Registry,
    scene: Scene,
    mode: &'static str,
}

fn every_kind_builds(mode: &'static str) {
    let scene = Scene::kube();
    let registry = Registry::start(&scene.path("registry"));
    // What buildctl reads the credentials from, and the Secret is made of.
    registry.log_in(&scene.path("docker"));
    let place = Place { registry, scene, mode };
    place.deployment();
    place.stateful_set();
    place.pod();
    place.job();
    place.scene.namespace().kubectl("delete secret --all").succeeds();
    place.scene.namespace().empties();
}

impl Place {
    /// `buildfleet manifests WORDS >FILE`, `kubectl apply -f FILE`.
    fn apply(&self, words: &str) {
        let printed = self.scene.buildfleet("manifests").words(words).words("--mode").arg(self.mode).succeeds();
        self.apply_text(&printed.stdout);
    }

    fn apply_text(&self, text: &str) {
        let file = self.scene.path("set.yaml");
        fs::write(&file, text).expect("a file of our own");
        self.scene.namespace().kubectl("apply -f").arg(file).succeeds();
    }

    fn delete(&self, words: &str) {
        let namespace = self.scene.namespace().name();
        let call = self.scene.buildfleet("manifests").words(words).words("--delete --namespace").arg(namespace);
        call.words("--mode").arg(self.mode).succeeds().says("deleted");
        wait_for("the end of the pods", seconds(60), || self.scene.namespace().pods().is_empty().then_some(()));
    }

    fn waits_for(&self, object: &str) {
        self.scene.namespace().kubectl("rollout status --timeout 80s").arg(object).succeeds();
    }

    fn push_of(&self, name: &str) -> String {
        // The registry's authority is nobody's: that it has a certificate and wants a password is what matters here.
        let image = self.registry.image(&format!("{}-{name}", self.mode));
        format!("--output type=image,name={image},push=true,registry.insecure=true")
    }

    /// As the examples build, with an image to push, which is refused without the password.
    fn builds(&self, address: &str, tls: &str, name: &str) {
        let build = |output: &str| {
            self.scene
                .buildctl("--addr")
                .arg(address)
                .words(tls)
                .words("build --progress plain --frontend dockerfile.v0 --local context=. --local dockerfile=.")
                .words(output)
                .dir(self.scene.contexts().hello())
        };
        pushed(build(&self.push_of(name)).succeeds());
    }

    fn pod(&self) {
        self.apply("pod");
        self.scene.namespace().kubectl("wait --for condition=Ready --timeout 80s pod/buildkitd").succeeds();
        self.builds(&self.pod_address("buildkitd"), "", "pod");
        self.delete("pod");
    }

    fn pod_address(&self, pod: &str) -> String {
        format!("kube-pod://{pod}?namespace={}", self.scene.namespace().name())
    }

    fn stateful_set(&self) {
        self.apply("statefulset");
        let scale = "scale --replicas=2 statefulset/buildkitd";
        self.scene.namespace().kubectl(scale).succeeds();
        self.waits_for("statefulset/buildkitd");
        self.builds(&self.pod_address("buildkitd-1"), "", "statefulset");
        self.delete("statefulset");
    }

    fn deployment(&self) {
        let pki = Pki::make(self.scene.path("pki"), &["127.0.0.1"]);
        let secret = "create secret generic buildkit-daemon-certs";
        let files =
            [("ca.pem", pki.authority()), ("cert.pem", pki.certificate("server")), ("key.pem", pki.key("server"))];
        let create = files.iter().fold(self.scene.namespace().kubectl(secret), |call, (name, file)| {
            call.arg(format!("--from-file={name}={}", file.display()))
        });
        create.succeeds();
        self.apply("deployment");
        self.scene.namespace().kubectl("scale --replicas=2 deployment/buildkitd").succeeds();
        self.waits_for("deployment/buildkitd");
        // A port of our own in the place of 1234: tests share a network.
        let forward =
            self.scene.namespace().kubectl("port-forward service/buildkitd :1234").within(seconds(80)).start();
        forward.says("Forwarding from 127.0.0.1:");
        let told = forward.text();
        let port = told.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
        let address = format!("tcp://127.0.0.1:{port}");
        let authority = format!("--tlscacert {}", pki.authority().display());
        let client = format!(
            "{authority} --tlscert {} --tlskey {}",
            pki.certificate("client").display(),
            pki.key("client").display()
        );
        self.builds(&address, &client, "deployment");
        let bare = self.scene.buildctl("--addr").arg(&address).words(&authority).words("debug workers");
        bare.within(seconds(40)).fails();
        drop(forward);
        self.delete("deployment");
    }

    fn job(&self) {
        let context = self.archive();
        let served = Web::serve(&self.scene.path("web"), &self.scene.contexts().hello().join("busybox-amd64"));
        let config = self.scene.path("docker").join("config.json");
        let secret = "create secret generic regcred --type kubernetes.io/dockerconfigjson";
        let namespace = self.scene.namespace();
        namespace.kubectl(secret).arg(format!("--from-file=.dockerconfigjson={}", config.display())).succeeds();
        let build =
            format!("--frontend dockerfile.v0 --opt context={}/{context} {}", served.url(), self.push_of("job"));
        let printed =
            self.scene.buildfleet(&format!("manifests job --mode {} --registry-secret regcred -- {build}", self.mode));
        self.apply_text(&printed.succeeds().stdout);
        let ended = wait_for("the end of the job", seconds(80), || {
            let status = "get job buildkit --output jsonpath={.status.succeeded}/{.status.failed}";
            let status = namespace.kubectl(status).succeeds();
            (status.word() != "/").then(|| status.word().to_owned())
        });
        let log = namespace.kubectl("logs job/buildkit").succeeds();
        assert_eq!(ended, "1/", "{log}");
        pushed(log);
        self.delete("job");
    }

    /// The context as an archive that a web server has.
    fn archive(&self) -> &'static str {
        let web = self.scene.path("web");
        fs::create_dir_all(&web).expect("a directory of our own");
        let archive = web.join("context.tar");
        let hello = self.scene.contexts().hello();
        self.scene.shell(&format!("tar -cf {} .", archive.display())).dir(Path::new(&hello)).succeeds();
        "context.tar"
    }
}

fn pushed(build: Outcome) {
    build.says("machine: ").says("pushing manifest for").says_nothing_of(&cluster().registry);
}
