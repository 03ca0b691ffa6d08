//! The example for CI systems: a builder for a job, and nothing of it left however the job ends.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::support::call::Call;
use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::scene::Scene;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/ci").join(name)
}

/// A job, as a runner starts it: in a process group of its own.
fn job(scene: &Scene, context: &Path) -> Call {
    let build = format!(
        "exec {} docker buildx build --progress plain {}",
        example("with-builder").display(),
        context.display()
    );
    let call = scene.shell(&build).env("BUILDFLEET_CI_NAMESPACE", scene.namespace().name()).env("CI_JOB_ID", "4711");
    call.env("BUILDFLEET_CI_TTL", "").env("CI_PROJECT_DIR", scene.path("home"))
}

fn nothing_is_left(scene: &Scene) {
    scene.has_no_builder();
    scene.namespace().empties();
    assert!(!scene.path("home/.buildfleet-ci").exists());
}

#[test]
fn a_job_leaves_nothing_whether_it_ends_or_is_ended() {
    let scene = Scene::kube();
    let done = job(&scene, &scene.contexts().hello()).succeeds();
    done.says("machine: x86_64");
    nothing_is_left(&scene);

    // A build that fails is a job that fails.
    job(&scene, &scene.contexts().with("fails", "RUN exit 3\n")).fails().says("exit code: 3");
    nothing_is_left(&scene);

    let running = job(&scene, &scene.contexts().slow("cancelled", 60)).start();
    running.says(BEGINS);
    running.signal(Signal::SIGTERM);
    running.end().failed().with_code(143).faster_than(seconds(45));
    nothing_is_left(&scene);
}

#[test]
fn what_a_killed_job_leaves_is_collected_when_its_time_is_over() {
    let scene = Scene::kube();
    let running = job(&scene, &scene.contexts().slow("killed", 60)).start();
    running.says(BEGINS);
    // The whole machine goes, the daemon with it.
    scene.kill_daemon();
    drop(running);
    assert!(!scene.namespace().objects().is_empty());

    // Somebody else's machine, which knows nothing of the job.
    let other = Scene::beside(&scene);
    let collect = format!("gc --namespace {} --ttl 2s --force", scene.namespace().name());
    wait_for("the end of the builder's time", seconds(40), || {
        other.buildfleet(&collect).succeeds();
        scene.namespace().pods().is_empty().then_some(())
    });
    scene.namespace().empties();
}
