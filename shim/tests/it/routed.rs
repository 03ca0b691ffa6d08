//! What goes to `buildfleet`, and what else a builder of ours gets.

use std::os::unix::net::UnixListener;

use crate::place::{Place, close};

const REAL: &str = "real/docker-buildx";

#[test]
fn buildfleet_gets_buildx_s_words_and_the_real_buildx_by_its_path() {
    let mut place = Place::with_real();
    let said = place.buildx("--builder x create --driver kubernetes --name kube --driver-opt a=b");
    assert_eq!((said.who().as_str(), said.code()), ("buildfleet", Some(7)));
    assert_eq!(said.words().join(" "), "buildx --builder x create --driver kubernetes --name kube --driver-opt a=b");
    assert!(said.has(&format!("BUILDFLEET_BUILDX={}", place.path(REAL).display())));
    // The same by docker, with what docker was told.
    place.set("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", "docker");
    place.set("DOCKER_HOST", "unix:///before");
    let said = place.buildx("--context there -D buildx create --driver kubernetes");
    assert_eq!(said.words().join(" "), "buildx create --driver kubernetes");
    assert!(said.has("DOCKER_CONTEXT=there") && !said.stdout().contains("DOCKER_HOST"), "{said:?}");
    let said = place.buildx("--host unix:///x --config /nonexistent buildx create --driver kubernetes");
    assert!(said.has("DOCKER_HOST=unix:///x") && said.has("DOCKER_CONFIG=/nonexistent"), "{said:?}");
}

#[test]
fn the_store_says_whose_a_builder_is() {
    let mut place = Place::with_real();
    place.builder("box", "docker-container");
    assert_eq!(place.buildx("ls").who(), REAL);
    place.builder("kube", "remote");
    for (line, wanted) in [
        ("ls", "buildfleet"),
        ("inspect kube", "buildfleet"),
        ("inspect box", REAL),
        ("inspect", REAL),
        ("rm box KUBE", "buildfleet"),
        ("create --name box --driver kubernetes", REAL),
        ("create --name kube --append --node n", "buildfleet"),
    ] {
        assert_eq!(place.buildx(line).who(), wanted, "{line}");
    }
    place.write("docker/buildx/current", r#"{"Key":"unix:///var/run/docker.sock","Name":"kube","Global":false}"#);
    assert_eq!(place.buildx("du").who(), "buildfleet");
    assert_eq!(place.buildx("du --builder box").who(), REAL);
    // Another context has another current builder.
    place.write("docker/config.json", r#"{"currentContext": "there"}"#);
    assert_eq!(place.buildx("du").who(), REAL);
    place.set("BUILDX_BUILDER", "kube");
    assert_eq!(place.buildx("du").who(), "buildfleet");
    place.set("BUILDFLEET_RUNTIME_DIR", "/nonexistent");
    assert_eq!(place.buildx("du").who(), REAL);
    // docker's configuration by its flag.
    place.set("BUILDFLEET_RUNTIME_DIR", place.path("run"));
    place.set("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", "docker");
    assert_eq!(place.buildx("buildx du").who(), "buildfleet");
    assert_eq!(place.buildx("--config /nonexistent buildx du").who(), REAL);
}

#[test]
fn a_store_that_cannot_be_read_is_for_buildx_to_tell() {
    let place = Place::with_real();
    place.write("docker/buildx/instances/kube", "{");
    place.write("docker/buildx/current", "{");
    place.write("docker/config.json", "{");
    for line in ["ls", "inspect kube", "inspect", "build ."] {
        let said = place.buildx(line);
        assert_eq!((said.who().as_str(), said.stderr().as_str()), (REAL, ""), "{line}");
    }
}

#[test]
fn a_build_wakes_the_daemon_of_its_builder() {
    let place = Place::with_real();
    place.builder("kube", "remote");
    place.script("bin/buildfleet", "echo \"called with $*\" >&2");
    let said = place.buildx("build --builder kube .");
    assert_eq!((said.who().as_str(), said.code()), (REAL, Some(9)));
    assert_eq!(said.words(), ["build", "--builder", "kube", "."]);
    assert_eq!(said.stderr(), "called with socket kube\n");
    // Help needs no daemon, and neither do others' builders.
    for line in ["build --builder kube --help", "build .", "install"] {
        assert_eq!(place.buildx(line).stderr(), "", "{line}");
    }
    // One that does not answer is there no more; one that does is left alone.
    let socket = place.path("run/nodes/kube0.sock");
    std::fs::create_dir_all(socket.parent().expect("it is below")).expect("ours");
    let listener = UnixListener::bind(&socket).expect("ours");
    assert_eq!(place.buildx("build --builder kube .").stderr(), "");
    close(listener);
    assert_eq!(place.buildx("bake --builder kube").stderr(), "called with socket kube\n");
}

#[test]
fn a_daemon_that_does_not_start_is_a_warning() {
    let place = Place::with_real();
    place.builder("kube", "remote");
    place.script("bin/buildfleet", "echo 'error: no' >&2; exit 3");
    let said = place.buildx("build --builder kube .");
    assert_eq!((said.who().as_str(), said.code()), (REAL, Some(9)));
    assert_eq!(said.stderr(), "error: no\nwarning: buildfleet: the daemon does not serve builder kube\n");
    std::fs::remove_file(place.path("bin/buildfleet")).expect("ours");
    let said = place.buildx("build --builder kube .");
    assert_eq!(said.who(), REAL);
    assert!(said.stderr().contains("found no `buildfleet` to start the daemon with"), "{}", said.stderr());
}
