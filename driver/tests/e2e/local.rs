//! The `local` driver: builds on this machine, with `buildkitd` processes of the daemon.

use std::fs;
use std::path::Path;

use crate::support::scene::Scene;

mod builds;
mod drain;
mod failures;
mod lifecycle;
mod options;
mod ping;
mod placement;
mod records;
mod rootless;
mod semantics;

/// The `buildkitd` processes that keep their state below this directory.
fn buildkitds(scene: &Scene) -> Vec<i32> {
    let is_buildkitd = |command: &str| {
        let program = command.split(' ').next().unwrap_or_default();
        Path::new(program).file_name().is_some_and(|name| name == "buildkitd")
    };
    scene.processes().into_iter().filter(|process| is_buildkitd(&process.command)).map(|process| process.pid).collect()
}

/// Paths of all files, relative to the directory.
fn files_below(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).expect("a directory").flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(path);
            } else {
                files.push(path.strip_prefix(dir).expect("below").display().to_string());
            }
        }
    }
    files
}
