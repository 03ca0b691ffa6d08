//! Builders on this machine from their beginning to their end.

use super::{buildkitds, files_below};
use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::processes;
use crate::support::scene::Scene;

#[test]
fn nothing_starts_before_a_build_and_nothing_is_left_after_rm() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local");
    assert_eq!(scene.buildx_builders(), ["laptop"]);

    // Looking is not building.
    scene.buildfleet("ls").succeeds().says("laptop0");
    scene.buildfleet("inspect laptop").succeeds();
    scene.buildx("ls").succeeds().says("laptop0");
    scene.buildx("inspect laptop").succeeds();
    builder.address();
    assert_eq!(buildkitds(&scene), Vec::<i32>::new());

    builder.buildx(&scene.contexts().hello(), "").succeeds().says("machine: x86_64");
    assert_eq!(buildkitds(&scene).len(), 1);
    assert_eq!(builder.status(), "running");

    let socket = builder.socket();
    builder.remove();
    scene.has_no_builder();
    assert_eq!(buildkitds(&scene), Vec::<i32>::new());
    assert!(!socket.exists(), "{} is left", socket.display());
    let left = files_below(&scene.runtime_dir());
    assert!(left.iter().all(|name| name.starts_with("daemon.")), "left in the runtime directory: {left:?}");
    let left = files_below(&scene.state_dir());
    assert!(!left.iter().any(|name| name.contains("laptop")), "left in the state directory: {left:?}");

    scene.end_daemon();
    scene.no_process_is_left();
}

#[test]
fn stop_ends_the_processes_and_the_next_build_starts_them_with_their_cache() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds();
    let build = builder.buildctl(&scene.contexts().slow("slow", 4), "").start();
    build.says(BEGINS);
    builder.stop();
    assert_eq!(buildkitds(&scene).len(), 1, "it waits for its build");
    build.end().succeeded();
    wait_for("the end of buildkitd", seconds(15), || buildkitds(&scene).is_empty().then_some(()));
    assert_eq!(builder.status(), "stopped");
    builder.buildctl(&hello, "").succeeds().says("CACHED");
}

#[test]
fn a_killed_daemon_takes_its_processes_along_and_the_next_one_finds_the_cache() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    let hello = scene.contexts().hello();
    builder.buildx(&hello, "").succeeds().says("machine: x86_64");
    let before = buildkitds(&scene);
    assert_eq!(before.len(), 1);

    scene.kill_daemon();
    before.iter().for_each(|pid| processes::gone(*pid, seconds(10)));

    // The next command starts a daemon, which knows the builder.
    assert_eq!(scene.builders().len(), 1);
    builder.buildx(&hello, "").succeeds().says("CACHED").says_nothing_of("machine: x86_64");
    builder.buildctl(&hello, "").succeeds().says("CACHED");
}

#[test]
fn several_commands_at_once_start_one_daemon() {
    let scene = Scene::local();
    let commands: Vec<_> = (0..8).map(|_| scene.buildfleet("ls --format json").start()).collect();
    for command in commands {
        command.end().succeeded();
    }
    // Those that came too late are gone a moment later.
    let one = wait_for("one daemon alone", seconds(5), || {
        let daemons = scene.processes();
        (daemons.len() == 1).then(|| daemons[0].pid)
    });
    assert_eq!(scene.daemon_pid(), Some(one));
}
