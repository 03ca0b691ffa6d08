//! What the `buildkitd` processes of a node keep, asked for at one socket.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::buildkitds;
use crate::records::{buildctl, buildx, ids, is_found, is_removed, two_builds};
use crate::support::clock::seconds;
use crate::support::scene::Scene;

#[test]
fn records_outlive_the_processes_and_a_killed_daemon() {
    let scene = Scene::local();
    let builder = scene.create("two", "--driver local --driver-opt replicas=2 --bootstrap");
    builder.has_ready(2);
    let builds = two_builds(&scene, &builder);
    is_found(&scene, &builder, &builds);

    // The processes go with their daemon. What nobody runs nobody asks, and to ask starts nothing.
    scene.kill_daemon();
    assert_eq!(scene.builders().len(), 1);
    buildx(&scene, &builder, "history ls --no-trunc").says_nothing_of(&builds[0].1).says_nothing_of(&builds[1].1);
    assert_eq!(buildkitds(&scene), Vec::<i32>::new());
    builder.bootstrap();
    builder.has_ready(2);
    is_found(&scene, &builder, &builds);
    is_removed(&scene, &builder, &builds);
}

#[test]
fn a_process_that_hangs_costs_a_moment_and_is_told() {
    let scene = Scene::local();
    let builder = scene.create("two", "--driver local --driver-opt replicas=2 --bootstrap");
    builder.has_ready(2);
    two_builds(&scene, &builder);
    let all = ids(&buildctl(&scene, &builder, "du"));
    let hanging = Hanging::stop(buildkitds(&scene).pop().expect("a process"));

    // A report has what there is.
    let usage = buildx(&scene, &builder, "du").faster_than(seconds(15));
    let some = ids(&usage);
    assert!(!some.is_empty() && some.len() < all.len(), "{} of {}: {usage}", some.len(), all.len());
    let told = scene.buildfleet("du two").succeeds();
    assert_eq!(ids(&told), some);
    told.says("warning: pod two0-").says("gave no sign of life for 5 s");
    buildx(&scene, &builder, "history ls").faster_than(seconds(15));
    scene.buildfleet("inspect two").succeeds().says("did not answer within 5 s");
    assert!(scene.daemon_log().contains("gave no sign of life for 5 s"), "{}", scene.daemon_log());
    // What was not done is an error.
    let prune = scene.buildx("prune --force --builder two").fails().faster_than(seconds(15));
    prune.says("gave no sign of life for 5 s");
    scene.buildfleet("prune two --force").fails().with_code(1).says("error: failed to prune node two0: pod two0-");

    drop(hanging);
    buildx(&scene, &builder, "prune --all --force");
    scene.buildfleet("inspect two").succeeds().says_nothing_of("sign of life").says_nothing_of("did not answer");
    assert_eq!(ids(&buildctl(&scene, &builder, "du")), [""; 0]);
}

/// A process that does not run until this is dropped.
struct Hanging(Pid);

impl Hanging {
    fn stop(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it runs");
        Self(Pid::from_raw(pid))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // At the end of a failed test it may be gone.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
