//! `docker buildx`, typed as ever, with the plugin of ours before the real one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::call::Call;
use crate::support::scene::Scene;
use crate::support::tools::{BUILDFLEET, tools};

mod flags;
mod guide;
mod store;

/// A scene in which docker finds our plugin, and that the real one.
fn installed(mut scene: Scene) -> Scene {
    let plugin = Path::new(BUILDFLEET).with_file_name("docker-buildfleet");
    assert!(plugin.is_file(), "no {}: build the whole workspace", plugin.display());
    let link = scene.path("docker/cli-plugins/docker-buildx");
    fs::remove_file(&link).expect("a link of our own");
    symlink(&plugin, &link).expect("a directory of our own");
    scene.set("BUILDFLEET_BUILDX", &tools().docker_buildx);
    scene
}

/// The same words for the real buildx alone.
fn real(scene: &Scene, words: &str) -> Call {
    scene.buildx(words).env("BUILDFLEET_SHIM", "off")
}
