//! Images for the engine of the machine that the client runs on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::remote::Buildkitd;
use crate::support::builder::Builder;
use crate::support::call::{Call, Running};
use crate::support::clock::seconds;
use crate::support::oci::{has_words, unpack};
use crate::support::scene::Scene;
use crate::support::tools::{of_package, tools};

/// A real engine.
#[derive(Debug)]
pub(crate) struct Engine {
    address: String,
    running: Running,
}

impl Engine {
    pub(crate) fn start(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("a directory of our own");
        let address = format!("unix://{}", dir.join("engine.sock").display());
        let flags = "--bridge=none --iptables=false --ip6tables=false --ip-forward=false --storage-driver=vfs";
        let mut call = Call::new(of_package("docker.io", "dockerd")).words(flags).arg("--host").arg(&address);
        // The machine may have an engine with a configuration of its own.
        fs::write(dir.join("config.json"), "{}").expect("a file of our own");
        for (flag, name) in
            [("--config-file", "config.json"), ("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            call = call.arg(flag).arg(dir.join(name));
        }
        let running = call.within(seconds(40)).start();
        running.says("API listen on");
        Self { address, running }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn docker(&self, words: &str) -> Call {
        Call::new(&tools().docker).arg("--host").arg(&self.address).words(words)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // In order, so that the containerd that it started ends with it.
        self.running.signal(Signal::SIGTERM);
        let end = Instant::now() + seconds(10);
        while self.running.runs() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The second builder loads what has no output.
pub(super) fn reaches_an_engine(scene: &Scene, builder: &Builder<'_>, by_default: &Builder<'_>) {
    let engine = Engine::start(&scene.path("engine"));
    let context =
        scene.contexts().with("loaded", "RUN echo \"loaded $((6 * 7))\" >/word\nCMD [\"/bin/cat\", \"/word\"]\n");
    builder.buildx(&context, "--load -t loaded:by-flag").env("DOCKER_HOST", &engine.address).succeeds();
    let words = "--output type=docker,name=loaded:by-output";
    builder.buildx(&context, words).env("DOCKER_HOST", &engine.address).succeeds();
    by_default.buildx(&context, "-t loaded:by-default").env("DOCKER_HOST", &engine.address).succeeds();
    // buildctl knows no engine, and makes what one reads.
    let pipe = format!(
        "buildctl --addr {} build --frontend dockerfile.v0 --local context={1} --local dockerfile={1} \
         --output type=docker,name=loaded:by-buildctl | docker --host {2} load",
        builder.address(),
        context.display(),
        engine.address
    );
    scene.shell(&pipe).succeeds().says("loaded:by-buildctl");
    for tag in ["by-flag", "by-output", "by-default", "by-buildctl"] {
        let image = engine.docker(&format!("image inspect loaded:{tag}")).succeeds().json();
        assert_eq!(image[0]["Config"]["Cmd"].to_string(), r#"["/bin/cat","/word"]"#, "{image:#}");
        let saved = scene.path(&format!("saved-{tag}.tar"));
        engine.docker("save --output").arg(&saved).arg(format!("loaded:{tag}")).succeeds();
        assert!(has_words(&unpack(&saved), "loaded 42"), "the step's file is not in loaded:{tag}");
    }
}

/// The words are those of buildx with a `remote` builder of its own.
pub(super) fn fails_without_an_engine_as_in_stock_buildx(scene: &Scene) {
    let address = format!("unix://{}", scene.path("other.sock").display());
    let _other = Buildkitd::start(scene, &address, "");
    let ours = scene.create("ours", &format!("--driver remote {address}"));
    scene.buildx(&format!("create --name stock --driver remote {address}")).succeeds();
    let hello = scene.contexts().hello();
    let nobody = format!("unix://{}", scene.path("nobody.sock").display());
    let said = |builder: &Builder<'_>| {
        let failed = builder.buildx(&hello, "--load -t loaded:never").env("DOCKER_HOST", &nobody).fails();
        let error = failed.stderr.lines().find(|line| line.starts_with("ERROR:")).map(str::to_owned);
        // It depends on the moment whether the pod still sends when the client gives up.
        error.unwrap_or_else(|| panic!("no error: {failed}")).replace("failed to copy to tar: ", "")
    };
    let stock = said(&scene.builder("stock"));
    println!("{stock}");
    assert_eq!(said(&ours), stock);
}
