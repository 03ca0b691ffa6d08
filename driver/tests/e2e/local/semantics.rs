//! What the fake `buildkitd` of the hermetic tests is held to, and what the proxy relies on: as a real one does it.

use crate::made::semantics;
use crate::remote::Buildkitd;
use crate::support::scene::Scene;

fn run(checks: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(checks);
}

#[test]
fn a_real_buildkitd_does_what_the_fake_one_does() {
    let scene = Scene::local();
    let socket = scene.path("other.sock");
    let _buildkitd = Buildkitd::start(&scene, &format!("unix://{}", socket.display()), "");
    run(semantics::hold_for_a_pod(&socket));
}

#[test]
fn a_client_cannot_tell_a_daemon_with_pods_from_a_buildkitd() {
    let scene = Scene::local();
    let builder = scene.create("pair", "--driver local --driver-opt replicas=2 --bootstrap");
    run(semantics::hold_through_a_daemon(&builder.socket()));
}
