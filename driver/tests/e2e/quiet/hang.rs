//! A pod that is told to go, and whose `buildkitd` does not hear it.

use std::time::Instant;

use crate::kube::drain::kube;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

#[test]
fn a_buildkitd_that_hangs_does_not_keep_its_pod_for_the_whole_drain() {
    let scene = Scene::kube();
    let builder = kube(&scene, "");
    let pod = builder.has_ready(1).remove(0);
    let pid = nix::unistd::Pid::from_raw(scene.namespace().buildkitd_of(&pod));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("it runs");
    let ordered = Instant::now();
    scene.namespace().kubectl("delete pod --wait=false").arg(&pod).succeeds();
    // Three looks of ten seconds, then the thirty that every buildkitd has for its end.
    wait_for("the pod's end", seconds(85), || (!scene.namespace().pods().contains(&pod)).then_some(()));
    println!("{pod}: gone {:?} after the order", ordered.elapsed());
}
