//! What a real gateway can do is asked without a build of the user.

use std::fs;

use serde_json::Value;

use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;

#[test]
fn a_gateway_is_asked_once_and_the_question_leaves_no_trace() {
    let scene = Scene::local();
    let builder = scene.create("laptop", "--driver local --bootstrap");
    let file = scene.state_dir().join("nodes/laptop0.json");
    let stored = wait_for("the answer in the store", seconds(10), || {
        let stored: Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
        stored["ping"].is_string().then_some(stored)
    });
    // Real answers name some hundred capabilities.
    assert!(stored["ping"].as_str().expect("a string").len() > 2000, "{stored}");
    let version = stored["ping_version"].as_str().expect("a string");
    assert!(version.starts_with("github.com/moby/buildkit v0."), "{version}");

    let history = scene.buildctl("--addr").arg(builder.address()).words("debug histories").succeeds();
    assert_eq!(history.stdout.lines().count(), 1, "a head line alone: {history}");
    scene.buildfleet("logs laptop0").succeeds().says("running server").says_nothing_of("returned error");

    assert!(!scene.daemon_log().contains("what a pod's gateway can do is not known"), "{}", scene.daemon_log());
}
