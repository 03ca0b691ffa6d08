//! The plugins, run by the real docker command line before the real buildx.

mod install;
mod relay;
mod terminal;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::scene::Scene;
use crate::support::tools::BUILDFLEET;

/// Beside the program under test.
fn program() -> PathBuf {
    let plugin = Path::new(BUILDFLEET).with_file_name("docker-buildfleet");
    assert!(plugin.is_file(), "no {}: build the whole workspace", plugin.display());
    plugin
}

/// Where `install` puts it when docker's own buildx lies among the user's plugins, as it does in a scene.
pub(crate) const DIR: &str = "docker/buildfleet/cli-plugins";

#[test]
fn docker_runs_buildfleet_as_its_plugin() {
    let scene = Scene::local();
    symlink(program(), scene.path("docker/cli-plugins/docker-buildfleet")).expect("a directory of our own");

    let version = scene.shell("buildfleet version").succeeds();
    scene.shell("docker buildfleet version").succeeds().says(version.word().lines().next().expect("a line"));
    scene.create("laptop", "--driver local");
    scene.shell("docker buildfleet ls").succeeds().says("laptop0");
    scene.shell("docker --help").succeeds().says("buildfleet*");
    // Exit codes and messages are those of the program.
    scene.shell("docker buildfleet inspect desktop").fails().with_code(1).says("desktop").says("laptop");
    scene.shell("docker buildfleet create --driver-opt x").fails().with_code(2);
}
