//! The fake `buildkitd` of these tests, against what a real one was seen to do (`tests/e2e/local/semantics.rs`).

use crate::support::buildkitd::{Clocks, FakeBuildkitd};
use crate::support::front::Front;
use crate::support::semantics;

#[tokio::test]
async fn the_fake_buildkitd_does_what_a_real_one_does() {
    let directory = tempfile::tempdir().unwrap();
    let buildkitd = FakeBuildkitd::start_with("pod", directory.path(), Clocks::REAL);
    semantics::hold_for_a_pod(&buildkitd.socket).await;
}

#[tokio::test]
async fn a_client_cannot_tell_a_daemon_with_pods_from_a_buildkitd() {
    let front = Front::new();
    let pods = ["kube0-a", "kube0-b", "kube0-c"];
    let pods = pods.map(|name| FakeBuildkitd::start_with(name, front.directory(), Clocks::REAL));
    for pod in &pods {
        front.pods.run(&pod.name, &pod.socket);
    }
    semantics::hold_through_a_daemon(&front.socket).await;
}
