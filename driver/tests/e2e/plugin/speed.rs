//! What it costs that we stand before buildx. The least of many turns is compared: all else is the machine's.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::DIR;
use crate::support::scene::Scene;
use crate::support::tools::tools;

const TURNS: usize = 40;

/// Sorted.
fn times(mut turn: impl FnMut() -> Duration) -> Vec<Duration> {
    let mut all: Vec<Duration> = (0..TURNS).map(|_| turn()).collect();
    all.sort();
    all
}

#[test]
fn metadata_takes_less_than_20_ms_and_a_relay_at_most_5_ms() {
    let scene = Scene::local();
    scene.buildfleet("install").succeeds();
    let plugin = scene.path(DIR).join("docker-buildx");
    let run = |program: &OsStr, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("DOCKER_CONFIG", scene.path("docker")).env("BUILDFLEET_RUNTIME_DIR", scene.runtime_dir());
        let began = Instant::now();
        let ended = command.status().expect("it runs");
        assert!(ended.success(), "{}: {ended}", program.display());
        began.elapsed()
    };
    let metadata = times(|| run(plugin.as_os_str(), &["docker-cli-plugin-metadata"]));
    // One after the other, so that both meet the same machine.
    let (mut shim, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        shim.push(run(plugin.as_os_str(), &["build", "--help"]));
        direct.push(run(tools().docker_buildx.as_os_str(), &["build", "--help"]));
    }
    shim.sort();
    direct.sort();
    let over = |place: usize| shim[place].saturating_sub(direct[place]);
    println!("metadata: least {:?}, median {:?}", metadata[0], metadata[TURNS / 2]);
    println!(
        "relay: least {:?} over {:?}, median {:?} over {:?}",
        over(0),
        direct[0],
        over(TURNS / 2),
        direct[TURNS / 2]
    );
    assert!(metadata[0] < Duration::from_millis(20), "{metadata:?}");
    assert!(over(0) <= Duration::from_millis(5), "{shim:?}\n{direct:?}");
}
