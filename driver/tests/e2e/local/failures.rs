//! What goes wrong on this machine, and how it is told.

use super::buildkitds;
use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::processes;
use crate::support::scene::Scene;

#[test]
fn a_buildkitd_that_dies_in_mid_build_is_named_at_once_and_started_again() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --driver-opt retry=off --bootstrap");
    let slow = scene.contexts().slow("slow", 25);
    for buildx in [false, true] {
        let pod = builder.has_ready(1).remove(0);
        let build = if buildx { builder.buildx(&slow, "") } else { builder.buildctl(&slow, "") };
        let build = build.start();
        build.says(BEGINS);
        let pid = buildkitds(&scene)[0];
        let killed = std::time::Instant::now();
        processes::kill_now(pid);
        let failed = build.end().failed();
        let after = failed.ended - killed;
        assert!(after < seconds(3), "told only {after:?} after the kill: {failed}");
        failed.says(&pod).says("killed by SIGKILL");
        // The next build waits for the new process.
        builder.buildctl(&scene.contexts().hello(), "").succeeds();
    }
}

#[test]
fn a_build_waits_for_the_new_process_of_its_only_pod_and_begins_anew() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    for buildx in [false, true] {
        builder.has_ready(1);
        let slow = scene.contexts().slow(&format!("slow-{buildx}"), 5);
        let build = if buildx { builder.buildx(&slow, "") } else { builder.buildctl(&slow, "") };
        let build = build.start();
        build.says(BEGINS);
        processes::kill_now(buildkitds(&scene)[0]);
        build.end().succeeded().says("killed by SIGKILL").says("building on laptop0-0");
    }
}

#[test]
fn an_export_that_was_begun_is_not_begun_anew() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    // Large enough to be under way for a while.
    let large = scene.contexts().with("large", "RUN dd if=/dev/urandom of=/data bs=1M count=1500\n");
    let out = scene.path("out.tar");
    let build = builder.buildctl(&large, "--output").arg(format!("type=tar,dest={}", out.display()));
    let build = build.within(seconds(120)).start();
    wait_for("the export", seconds(90), || std::fs::metadata(&out).is_ok_and(|file| file.len() > 0).then_some(()));
    let killed = std::time::Instant::now();
    processes::kill_now(buildkitds(&scene)[0]);
    let failed = build.end().failed().says("was not begun anew, because a part of its export was delivered");
    assert!(failed.ended - killed < seconds(3), "{failed}");
}

#[test]
fn without_a_buildkitd_the_error_says_how_to_get_one() {
    let mut scene = Scene::local();
    // Everything but buildkitd.
    let path = scene.path("bin");
    std::fs::create_dir(&path).expect("a directory of our own");
    for program in ["docker", "buildctl", "runc"] {
        let found = crate::support::tools::on_path(program).expect("on PATH");
        std::os::unix::fs::symlink(found, path.join(program)).expect("a directory of our own");
    }
    scene.set("PATH", path);
    let failed = scene.buildfleet("create --name laptop --driver local --bootstrap").fails();
    failed.says("buildkitd").says("PATH").faster_than(seconds(10));
    scene.has_no_builder();

    // Without --bootstrap the builder is there, and a build says the same.
    let builder = scene.create("later", "--driver local");
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").fails().says("buildkitd").says("PATH").faster_than(seconds(10));
}

#[test]
fn every_wrong_option_is_told_at_once() {
    let scene = Scene::local();
    let opts = "--driver-opt replicas=none,image=x --driver-opt timeot=5s --platform linux/amd46/v99/x";
    let failed = scene.buildfleet(&format!("create --name laptop --driver local {opts}")).fails().with_code(2);
    failed.says("`replicas`").says("`image`").says("did you mean `timeout`?").says("linux/amd46/v99/x");
    scene.has_no_builder();
}

#[test]
fn a_builder_that_is_not_there_is_told_with_those_that_are() {
    let scene = Scene::local();
    scene.create("laptop", "--driver local");
    for command in ["inspect desktop", "socket desktop", "rm desktop", "stop desktop"] {
        scene.buildfleet(command).fails().with_code(1).says("desktop").says("laptop");
    }
}
