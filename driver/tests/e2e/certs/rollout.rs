//! Certificates are renewed, and their authority is changed, below a Deployment in which builds run all the time.

use std::fs;
use std::path::PathBuf;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::at;
use crate::support::call::Call;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

/// More than a build takes, and more than a pod on a busy machine.
const ROLLOUT: std::time::Duration = seconds(180);

/// The clients' files as they were given to the clients, each time in a directory of its own.
struct Given<'a> {
    scene: &'a Scene,
    present: RwLock<PathBuf>,
    count: AtomicUsize,
}

impl Given<'_> {
    fn again(&self) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let copy = PathBuf::from(at(self.scene, &format!("given-{number}")));
        Call::new("cp").arg("-r").arg(at(self.scene, ".certs/client")).arg(&copy).succeeds();
        *self.present.write().expect("no panic") = copy;
    }

    fn present(&self) -> PathBuf {
        self.present.read().expect("no panic").clone()
    }
}

/// The address of a pod that takes builds: as a Service has it, without those that are told to go.
fn pod(scene: &Scene) -> Option<String> {
    let pods = scene.namespace().kubectl("get pods -l app=buildkitd --output json").succeeds().json();
    let ready = |pod: &&serde_json::Value| {
        let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let found = pods["items"].as_array().expect("a list").iter().find(ready)?;
    Some(format!("tcp://{}:1234", found["status"]["podIP"].as_str().expect("a ready pod has an address")))
}

/// Builds one after the other, each of four seconds, until that is enough. The number of them, and the failures.
fn builds(given: &Given<'_>, client: usize, enough: &AtomicBool) -> (usize, Vec<String>) {
    let (mut count, mut failures) = (0, Vec::new());
    while !enough.load(Ordering::Relaxed) {
        let context = given.scene.contexts().slow(&format!("client-{client}-{count}"), 4).display().to_string();
        let address = wait_for("a pod that takes builds", ROLLOUT, || pod(given.scene));
        let build = given
            .scene
            .buildctl(&format!("--addr {address} --tlsservername buildkitd --tlsdir"))
            .arg(given.present())
            .words("build --progress plain --frontend dockerfile.v0 --local")
            .arg(format!("context={context}"))
            .arg("--local")
            .arg(format!("dockerfile={context}"))
            .within(seconds(120))
            .end();
        if !build.is_success() {
            failures.push(build.to_string());
        }
        count += 1;
    }
    (count, failures)
}

#[test]
fn no_build_is_lost_while_certificates_are_renewed_and_their_authority_changes() {
    let scene = Scene::kube();
    let name = scene.namespace().name().to_owned();
    let apply = format!("--apply --namespace {name}");
    scene
        .buildfleet(&format!("certs create buildkitd {apply}"))
        .succeeds()
        .says("secret buildkit-daemon-certs created");
    scene.buildfleet(&format!("manifests deployment --tls-secret buildkit-daemon-certs {apply}")).succeeds();
    let rolled_out =
        || scene.namespace().kubectl("rollout status deployment/buildkitd --timeout 170s").within(ROLLOUT).succeeds();
    let restarted = || {
        scene.namespace().kubectl("rollout restart deployment/buildkitd").succeeds();
        rolled_out();
        // Those that wait for their builds are no longer counted, and still have the certificates of before.
        wait_for("the end of the old pods", ROLLOUT, || (scene.namespace().pods().len() == 1).then_some(()));
    };
    rolled_out();
    let given = Given { scene: &scene, present: RwLock::default(), count: AtomicUsize::new(0) };
    given.again();
    let verify = |dir: &str| {
        let address = pod(&scene).expect("a pod that takes builds");
        scene.buildfleet(&format!("certs verify {address} --servername buildkitd --dir {dir}")).end()
    };
    verify(".certs").succeeded();
    Call::new("cp").words("-r .certs first").dir(scene.path("home")).succeeds();
    let shown = || {
        let pem = fs::read_to_string(at(&scene, ".certs/daemon/cert.pem")).expect("a certificate");
        let address = pod(&scene).expect("a pod that takes builds").replace("tcp://", "");
        let served = super::openssl(
            &scene,
            &format!("s_client -connect {address} -cert .certs/client/cert.pem -key .certs/client/key.pem -showcerts"),
        );
        served.stdout.contains(pem.trim())
    };

    let enough = AtomicBool::new(false);
    let outcomes: Vec<(usize, Vec<String>)> = thread::scope(|scope| {
        // Two, so that one of them builds at any time.
        let clients: Vec<_> = [0, 1]
            .map(|client| {
                scope.spawn({
                    let (given, enough) = (&given, &enough);
                    move || {
                        thread::sleep(seconds(2 * client as u64));
                        builds(given, client, enough)
                    }
                })
            })
            .into_iter()
            .collect();
        let renewed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Of the same authority: the clients first, or the daemons, or both at once.
            scene
                .buildfleet(&format!("certs renew --now {apply}"))
                .succeeds()
                .says("secret buildkit-daemon-certs changed");
            assert!(!shown(), "a daemon reads its certificates when it starts, says the documentation");
            restarted();
            assert!(shown(), "the daemon shows another certificate than the new one");
            given.again();
            // To another authority. Within a step the order does not matter, either.
            scene.buildfleet(&format!("certs renew --new-ca trust {apply}")).succeeds();
            given.again();
            restarted();
            scene.buildfleet(&format!("certs renew --new-ca switch {apply}")).succeeds();
            given.again();
            restarted();
            assert!(shown(), "the daemon shows another certificate than the new one");
            scene.buildfleet(&format!("certs renew --new-ca drop {apply}")).succeeds();
            restarted();
            given.again();
        }));
        enough.store(true, Ordering::Relaxed);
        let outcomes = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
        if let Err(panic) = renewed {
            std::panic::resume_unwind(panic);
        }
        outcomes
    });
    for (count, failures) in outcomes {
        assert!(count > 4, "only {count} builds: too few to lose one");
        assert!(failures.is_empty(), "{} of {count} builds were lost:\n{}", failures.len(), failures.join("\n"));
    }
    verify(".certs").succeeded();
    // Who has missed the change is out, on both sides.
    verify("first").failed().says("by an authority that is not trusted");
}
