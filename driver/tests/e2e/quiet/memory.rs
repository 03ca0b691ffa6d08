//! A pod that uses more memory than its limit: the client is told what killed it.

use crate::support::call::Running;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

/// From the kernel's kill, as the API server has it, to the client's screen.
const TOLD: std::time::Duration = seconds(3);

#[test]
fn a_buildkitd_that_runs_out_of_memory_is_named_as_oom_killed() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let opts = format!("namespace={namespace},limits.memory=64Mi,requests.memory=16Mi");
    let builder = scene.create("small", &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
    // Memory that no process has, so that buildkitd has the most, and it is not chance which one the kernel takes.
    let fill = "RUN --mount=type=tmpfs,target=/full dd if=/dev/zero of=/full/it bs=1M\n";
    let hungry = scene.contexts().with("hungry", fill);
    let pod = builder.has_ready(1).remove(0);
    let build: Running = builder.buildctl(&hungry, "").start();
    let killed = wait_for("the end of the container", seconds(40), || {
        let pod = scene.namespace().pod(&pod);
        let status = &pod["status"]["containerStatuses"][0];
        let reason = |state: &str| status[state]["terminated"]["reason"].as_str().map(str::to_owned);
        reason("state").or_else(|| reason("lastState"))
    });
    let seen = std::time::Instant::now();
    // In its progress, because it is tried once more.
    build.says("OOMKilled").says(&pod);
    let told = seen.elapsed();
    println!("{killed}; told {told:?} after it was seen");
    assert!(told < TOLD, "told {told:?} after the kill: {}", build.text());
    let failed = build.end().failed().says("it may need more memory than its pods have");
    // Whatever was in the log when the kernel came is no reason.
    let error = failed.stderr.lines().find(|line| line.starts_with("error:")).expect("an error");
    assert!(error.contains("OOMKilled") && !error.contains("level="), "{error}");
    builder.remove();
    scene.namespace().empties();
}
