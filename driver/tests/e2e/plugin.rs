//! `docker buildfleet`: the plugin, run by the real docker command line.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::scene::Scene;
use crate::support::tools::BUILDFLEET;

#[test]
fn docker_runs_buildfleet_as_its_plugin() {
    let scene = Scene::local();
    let plugin = Path::new(BUILDFLEET).with_file_name("docker-buildfleet");
    assert!(plugin.is_file(), "no {}: build the whole workspace", plugin.display());
    symlink(&plugin, scene.path("docker/cli-plugins/docker-buildfleet")).expect("a directory of our own");

    let version = scene.shell("buildfleet version").succeeds();
    scene.shell("docker buildfleet version").succeeds().says(version.word().lines().next().expect("a line"));
    scene.create("laptop", "--driver local");
    scene.shell("docker buildfleet ls").succeeds().says("laptop0");
    scene.shell("docker --help").succeeds().says("buildfleet*");
    // Exit codes and messages are those of the program.
    scene.shell("docker buildfleet inspect desktop").fails().with_code(1).says("desktop").says("laptop");
    scene.shell("docker buildfleet create --driver-opt x").fails().with_code(2);
}
