//! The `local` driver: builds on this machine, with `buildkitd` processes of the daemon.

use std::path::Path;

use crate::support::scene::Scene;

mod builds;
mod drain;
mod failures;
mod lifecycle;

/// The `buildkitd` processes that keep their state below this directory.
fn buildkitds(scene: &Scene) -> Vec<i32> {
    let is_buildkitd = |command: &str| {
        let program = command.split(' ').next().unwrap_or_default();
        Path::new(program).file_name().is_some_and(|name| name == "buildkitd")
    };
    scene.processes().into_iter().filter(|process| is_buildkitd(&process.command)).map(|process| process.pid).collect()
}
