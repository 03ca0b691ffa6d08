//! What it costs that we stand before buildx. The least of many turns is compared: all else is the machine's.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::plugin::DIR;
use crate::support::scene::Scene;
use crate::support::tools::tools;

/// In one round.
const TURNS: usize = 20;

/// On a busy machine the least of a round is not what it costs; that of some is.
const ROUNDS: usize = 5;

/// How long it took, the least first.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, took: Duration) {
        self.0.push(took);
        self.0.sort();
    }

    fn least(&self) -> Duration {
        self.0[0]
    }

    fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }
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
    let (mut metadata, mut relayed, mut direct) = (Times::default(), Times::default(), Times::default());
    for _ in 0..ROUNDS {
        for _ in 0..TURNS {
            // One after the other, so that all meet the same machine.
            metadata.add(run(plugin.as_os_str(), &["docker-cli-plugin-metadata"]));
            relayed.add(run(plugin.as_os_str(), &["build", "--help"]));
            direct.add(run(tools().docker_buildx.as_os_str(), &["build", "--help"]));
        }
        let over = relayed.least().saturating_sub(direct.least());
        println!("metadata: least {:?}, median {:?}", metadata.least(), metadata.median());
        println!("relay: {over:?} over {:?}; medians {:?}, {:?}", direct.least(), relayed.median(), direct.median());
        if metadata.least() < Duration::from_millis(20) && over <= Duration::from_millis(5) {
            return;
        }
    }
    panic!("{metadata:?}\n{relayed:?}\n{direct:?}");
}
