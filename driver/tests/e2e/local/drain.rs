//! The daemon is asked to end while something is built.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::buildkitds;
use crate::support::clock::seconds;
use crate::support::contexts::BEGINS;
use crate::support::processes;
use crate::support::scene::Scene;

fn terminate(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the daemon runs");
}

fn sockets_below(dir: &Path) -> Vec<PathBuf> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let kind = entry.file_type().expect("a file");
        if kind.is_dir() {
            sockets.extend(sockets_below(&entry.path()));
        } else if kind.is_socket() {
            sockets.push(entry.path());
        }
    }
    sockets
}

fn nothing_is_left(scene: &Scene) {
    assert_eq!(buildkitds(scene), Vec::<i32>::new());
    assert_eq!(sockets_below(&scene.runtime_dir()), Vec::<PathBuf>::new());
    scene.no_process_is_left();
}

#[test]
fn builds_come_to_their_end_before_the_daemon_does() {
    for buildx in [false, true] {
        let scene = Scene::local();
        let builder = scene.create("laptop", "--driver local --bootstrap");
        let slow = scene.contexts().slow("slow", 6);
        let build = if buildx { builder.buildx(&slow, "") } else { builder.buildctl(&slow, "") };
        let build = build.start();
        build.says(BEGINS);
        let daemon = scene.daemon_pid().expect("a daemon runs");
        assert!(!sockets_below(&scene.runtime_dir()).is_empty());
        let asked = Instant::now();
        terminate(daemon);
        let built = build.end().succeeded();
        assert!(built.ended - asked > seconds(3), "the step had most of its time before it: {built}");
        processes::gone(daemon, seconds(15));
        println!("built {:?} and gone {:?} after the signal", built.ended - asked, asked.elapsed());
        nothing_is_left(&scene);
    }
}

#[test]
fn a_second_signal_ends_the_daemon_in_mid_build() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    let build = builder.buildctl(&scene.contexts().slow("slow", 40), "").start();
    build.says(BEGINS);
    let daemon = scene.daemon_pid().expect("a daemon runs");
    terminate(daemon);
    std::thread::sleep(seconds(1));
    assert!(processes::is_alive(daemon), "one signal alone does not end a build");
    let asked = Instant::now();
    terminate(daemon);
    processes::gone(daemon, seconds(2));
    println!("gone {:?} after the second signal", asked.elapsed());
    build.end().failed();
    nothing_is_left(&scene);
}
