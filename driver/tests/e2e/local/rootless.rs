//! `buildkitd` by rootlesskit: the daemon runs as an unprivileged user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{buildkitds, files_below};
use crate::support::oci::platforms_of_layout;
use crate::support::processes;
use crate::support::scene::Scene;
use crate::support::user::User;

/// A directory that only root of the user namespace may remove.
const OF_ANOTHER_ID: &str = "RUN mkdir -m 700 /kept && echo secret >/kept/file && chown -R 7:7 /kept && ls -n /kept\n";

#[test]
fn a_user_without_privileges_builds_and_nothing_is_left_after_rm() {
    let scene = Scene::unprivileged();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    assert_eq!(builder.has_ready(1).len(), 1);
    scene.buildfleet("ls").succeeds().says("laptop0").says("running");
    assert_eq!(buildkitds(&scene).len(), 1);
    all_run_as_the_user(&scene);

    let hello = scene.contexts().hello();
    let layout = scene.path("layout.tar");
    let words = format!("--output type=oci,dest={}", layout.display());
    builder.buildctl(&hello, &words).succeeds().says("machine: x86_64");
    assert_eq!(platforms_of_layout(&layout), ["linux/amd64"]);
    let owned = scene.contexts().with("owned", OF_ANOTHER_ID);
    builder.buildctl(&owned, "").succeeds().says("7 ");
    all_run_as_the_user(&scene);
    // Without such files, `rm` would not need rootlesskit.
    let state = scene.state_dir().join("local/laptop0");
    let owners = owners_below(&state);
    assert!(owners.iter().any(|uid| User::is_subordinate(*uid)), "{owners:?}");

    let socket = builder.socket();
    builder.remove();
    scene.has_no_builder();
    assert_eq!(buildkitds(&scene), Vec::<i32>::new());
    assert_eq!(processes_of(&scene, "rootlesskit"), Vec::<processes::Process>::new());
    assert!(!socket.exists(), "{} is left", socket.display());
    assert!(!state.exists(), "{} is left: {:?}", state.display(), files_below(&state));
    let left = files_below(&scene.runtime_dir());
    assert!(left.iter().all(|name| name.starts_with("daemon.")), "left in the runtime directory: {left:?}");
    let left = files_below(&scene.state_dir());
    assert!(!left.iter().any(|name| name.contains("laptop")), "left in the state directory: {left:?}");

    scene.end_daemon();
    scene.no_process_is_left();
}

fn processes_of(scene: &Scene, program: &str) -> Vec<processes::Process> {
    scene.processes().into_iter().filter(|process| process.command.contains(program)).collect()
}

fn all_run_as_the_user(scene: &Scene) {
    let found = scene.processes();
    let user = scene.user();
    // One may have ended since it was found.
    let others: Vec<_> = found.iter().filter(|one| !user.runs(one.pid) && processes::is_alive(one.pid)).collect();
    assert!(others.is_empty(), "they run as somebody else: {others:#?}");
    assert!(found.iter().any(|one| one.command.contains("rootlesskit")), "no rootlesskit: {found:#?}");
}

/// The users whom files and directories belong to.
fn owners_below(dir: &Path) -> Vec<u32> {
    let mut owners = Vec::new();
    let mut todo: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        let meta = fs::symlink_metadata(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display()));
        owners.push(meta.uid());
        if meta.is_dir() {
            todo.extend(fs::read_dir(&next).expect("a directory").flatten().map(|entry| entry.path()));
        }
    }
    owners.sort_unstable();
    owners.dedup();
    owners
}
