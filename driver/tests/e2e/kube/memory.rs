//! A pod that uses more memory than its limit: the client is told what killed it.

use crate::support::call::Running;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

/// From the kernel's kill, as the API server has it, to the client's error.
const TOLD: std::time::Duration = seconds(3);

#[test]
fn a_buildkitd_that_runs_out_of_memory_is_named_as_oom_killed() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("namespace={namespace},limits.memory=64Mi,requests.memory=16Mi");
    let builder = scene.create("small", &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    let hungry = scene.contexts().with("hungry", "RUN echo \"begins $((6 * 7))\" && tail /dev/zero\n");
    let pod = builder.has_ready(1).remove(0);
    let build: Running = builder.buildctl(&hungry, "").start();
    let killed = wait_for("the end of the container", seconds(40), || {
        let pod = scene.namespace().pod(&pod);
        let status = &pod["status"]["containerStatuses"][0];
        let reason = |state: &str| status[state]["terminated"]["reason"].as_str().map(str::to_owned);
        reason("state").or_else(|| reason("lastState"))
    });
    let seen = std::time::Instant::now();
    let failed = build.end().failed();
    println!("{killed}; told {:?} after it was seen", failed.ended.saturating_duration_since(seen));
    assert!(failed.ended < seen + TOLD, "{failed}");
    failed.says(&pod).says("OOMKilled");
    builder.remove();
    scene.namespace().empties();
}
