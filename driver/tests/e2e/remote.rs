//! The `remote` driver: a `buildkitd` that somebody else runs, and goes on running.

use crate::support::call::Running;
use crate::support::clock::{seconds, wait_for};
use crate::support::pki::Pki;
use crate::support::scene::Scene;
use crate::support::tools::tools;

#[test]
fn a_buildkitd_at_a_unix_socket_serves_builds_and_outlives_the_builder() {
    let scene = Scene::local();
    let address = format!("unix://{}", scene.path("other.sock").display());
    let mut other = Buildkitd::start(&scene, &address, "");
    let builder = scene.create("other", &format!("--driver remote {address}"));
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    builder.buildx(&hello, "").succeeds().says("CACHED");
    builder.remove();
    scene.has_no_builder();
    assert!(other.0.runs(), "rm ended a buildkitd that is not ours");
    scene.buildctl("--addr").arg(&address).words("debug workers").succeeds();
}

#[test]
fn a_buildkitd_at_a_tcp_port_is_reached_by_mtls_only() {
    let scene = Scene::local();
    let pki = Pki::make(scene.path("pki"), &["127.0.0.1"]);
    let address = format!("tcp://127.0.0.1:{}", free_port());
    let server = format!(
        "--tlscacert {} --tlscert {} --tlskey {}",
        pki.authority().display(),
        pki.certificate("server").display(),
        pki.key("server").display()
    );
    let mut other = Buildkitd::start(&scene, &address, &server);
    let opts = format!(
        "cacert={},cert={},key={}",
        pki.authority().display(),
        pki.certificate("client").display(),
        pki.key("client").display()
    );
    let builder = scene.create("other", &format!("--driver remote --driver-opt {opts} --bootstrap {address}"));
    let hello = scene.contexts().hello();
    builder.buildx(&hello, "").succeeds().says("machine: x86_64");
    builder.buildctl(&hello, "").succeeds().says("CACHED");

    // Without our certificate the server refuses, which is told in time and leaves no builder.
    let opts = format!("cacert={},timeout=5s", pki.authority().display());
    let refused =
        scene.buildfleet(&format!("create --name bare --driver remote --driver-opt {opts} --bootstrap {address}"));
    refused.fails().says("127.0.0.1").faster_than(seconds(15));
    assert_eq!(scene.builders().len(), 1);

    builder.remove();
    assert!(other.0.runs(), "rm ended a buildkitd that is not ours");
}

#[test]
fn a_buildkitd_that_is_not_there_is_told_in_time() {
    let scene = Scene::local();
    let socket = scene.path("nobody.sock");
    for address in [format!("unix://{}", socket.display()), "tcp://127.0.0.1:9".to_owned()] {
        let create = format!("create --name other --driver remote --timeout 5s --bootstrap {address}");
        let failed = scene.buildfleet(&create).fails();
        failed.says(address.split("//").nth(1).expect("an address")).faster_than(seconds(15));
        scene.has_no_builder();
    }
}

/// One that the test runs.
pub(crate) struct Buildkitd(Running);

impl Buildkitd {
    pub(crate) fn start(scene: &Scene, address: &str, flags: &str) -> Self {
        let unix = format!("unix://{}", scene.path("other-control.sock").display());
        let call = crate::support::call::Call::new(&tools().buildkitd)
            .arg("--root")
            .arg(scene.path("other"))
            .words(&format!("--addr {address} --addr {unix} --oci-worker-net host {flags}"));
        let running = call.within(seconds(120)).start();
        wait_for("the test's own buildkitd", seconds(20), || {
            scene.buildctl("--addr").arg(&unix).words("debug workers").end().is_success().then_some(())
        });
        Self(running)
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.0.runs()
    }
}

impl Drop for Buildkitd {
    fn drop(&mut self) {
        // In order, so that its mounts are gone; should it not end, its owner kills it.
        self.0.signal(nix::sys::signal::Signal::SIGTERM);
        let end = std::time::Instant::now() + seconds(10);
        while self.0.runs() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Free a moment ago, which has to do.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("a port").port()
}
