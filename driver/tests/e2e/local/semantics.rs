//! What the fake `buildkitd` of the hermetic tests is held to, and what the proxy relies on: as a real one does it.

use crate::made::semantics;
use crate::remote::Buildkitd;
use crate::support::scene::Scene;

fn hold(socket: &std::path::Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(semantics::all_hold(socket));
}

#[test]
fn a_real_buildkitd_does_what_the_fake_one_does() {
    let scene = Scene::local();
    let socket = scene.path("other.sock");
    let _buildkitd = Buildkitd::start(&scene, &format!("unix://{}", socket.display()), "");
    hold(&socket);
}
