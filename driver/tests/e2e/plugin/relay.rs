//! What is relayed is what the real buildx says, byte for byte; and every way to buildx that docker has leads here.

use std::fs;
use std::os::unix::fs::symlink;

use super::DIR;
use crate::support::call::Outcome;
use crate::support::scene::Scene;
use crate::support::tools::tools;

/// Help, versions, completions and errors, as a user would type them.
const LINES: [&str; 46] = [
    "docker buildx",
    "docker buildx --help",
    "docker buildx help",
    "docker buildx help create",
    "docker buildx bake --help",
    "docker buildx build --help",
    "docker buildx create --help",
    "docker buildx dial-stdio --help",
    "docker buildx du --help",
    "docker buildx history --help",
    "docker buildx history ls --help",
    "docker buildx imagetools --help",
    "docker buildx imagetools create --help",
    "docker buildx inspect --help",
    "docker buildx ls --help",
    "docker buildx prune --help",
    "docker buildx rm --help",
    "docker buildx stop -h",
    "docker buildx use --help",
    "docker buildx version --help",
    "docker build --help",
    "docker image build --help",
    "docker builder --help",
    "docker builder prune --help",
    "docker builder build --help",
    "docker bake --help",
    "docker buildx nope",
    "docker buildx --nope ls",
    "docker buildx build",
    "docker buildx build --nope .",
    "docker buildx ls kube",
    "docker buildx ls --format '{{.Nope'",
    "docker buildx ls",
    "docker buildx inspect nope",
    "docker buildx inspect stock",
    "docker buildx inspect a b",
    "docker buildx inspect --bootstrap=maybe",
    "docker buildx rm nope",
    "docker buildx use nope",
    "docker buildx stop nope",
    "docker buildx create --driver nope --name new",
    "docker buildx create --driver kubernetes --nope",
    "docker buildx --builder nope du",
    "docker --context nope buildx ls",
    "docker __complete buildx ins",
    "docker __complete buildx inspect ''",
];

/// Called as a program, without docker.
const ALONE: [&str; 5] = ["--help", "create --help", "nope", "inspect nope", "__complete inspect ''"];

/// What of a program's end can be seen.
fn seen(outcome: &Outcome) -> (&str, &str, Option<i32>) {
    (&outcome.stdout, &outcome.stderr, outcome.code())
}

#[test]
fn texts_and_exit_codes_are_the_real_one_s() {
    let scene = Scene::local();
    scene.buildx("create --name stock --driver remote unix:///nonexistent/buildkitd.sock").succeeds();
    // The same without us.
    let plain = scene.path("plain");
    fs::create_dir_all(plain.join("cli-plugins")).expect("ours");
    symlink(&tools().docker_buildx, plain.join("cli-plugins/docker-buildx")).expect("ours");
    scene.buildfleet("install").succeeds();
    let mut differ = Vec::new();
    let mut compare = |line: &str, ours: Outcome, stock: Outcome| {
        if seen(&ours) != seen(&stock) {
            differ.push(format!("{line}\n  stock: {stock}\n  here: {ours}"));
        }
    };
    for line in LINES {
        compare(line, scene.shell(line).end(), scene.shell(line).env("DOCKER_CONFIG", &plain).end());
    }
    for line in ALONE {
        let program = |path: &std::path::Path| scene.shell(&format!("{} {line}", path.display())).end();
        compare(line, program(&scene.path(DIR).join("docker-buildx")), program(&tools().docker_buildx));
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    // Were nothing of ours in the way, all of it would be the same.
    let version = |call: &str| scene.shell(call).succeeds().stderr;
    assert_ne!(version("docker buildx version"), "");
    assert_eq!(version("BUILDFLEET_SHIM=off docker buildx version"), "");
}

#[test]
fn every_way_to_a_build_leads_to_the_builder_whose_daemon_is_woken() {
    let scene = Scene::local();
    scene.buildfleet("install").succeeds();
    scene.create("laptop", "--driver local");
    let context = scene.contexts().with("ways", "RUN echo way > /way\n");
    let context = context.display();
    for way in ["docker buildx build", "docker build", "docker image build", "docker builder build"] {
        scene.end_daemon();
        let line = format!("BUILDX_BUILDER=laptop {way} --progress=plain {context}");
        scene.shell(&line).succeeds().says("echo way").says_nothing_of("warning: buildfleet");
        assert!(scene.daemon_pid().is_some(), "{way} has started it");
    }
    scene.end_daemon();
    fs::write(scene.path("home/docker-bake.hcl"), format!("target \"default\" {{ context = \"{context}\" }}"))
        .expect("ours");
    scene.shell("docker buildx bake --builder laptop --allow 'fs.read=*' --progress=plain").succeeds().says("echo way");
    // `buildx install` makes buildx the builder of docker, and then its current builder counts.
    scene.buildfleet("use laptop").succeeds();
    scene.shell(&format!("docker build --progress=plain {context}")).fails();
    let config = scene.path("docker/config.json");
    let text = fs::read_to_string(&config).expect("install wrote it");
    for plugin in ["buildx", "buildfleet"] {
        fs::write(&config, text.replacen('{', &format!(r#"{{"aliases": {{"builder": "{plugin}"}},"#), 1))
            .expect("ours");
        scene.shell(&format!("docker build --progress=plain {context}")).succeeds().says("echo way");
    }
    scene.shell(&format!("docker buildfleet build --progress=plain {context}")).succeeds().says("echo way");
    scene.buildfleet("rm laptop").succeeds();
}
