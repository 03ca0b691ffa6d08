//! `docker buildfleet`.

use crate::place::Place;

fn place() -> Place {
    let place = Place::bare();
    place.link("docker/cli-plugins/docker-buildfleet");
    place
}

const PLUGIN: &str = "docker/cli-plugins/docker-buildfleet";

#[test]
fn metadata_needs_nothing_else() {
    let mut place = place();
    std::fs::remove_file(place.path("bin/buildfleet")).expect("ours");
    place.set("DOCKER_CONFIG", "/nonexistent");
    let said = place.run(PLUGIN, ["docker-cli-plugin-metadata"]);
    assert_eq!(said.code(), Some(0));
    let metadata: serde_json::Value = serde_json::from_str(&said.stdout()).expect("it is JSON");
    assert_eq!(metadata["SchemaVersion"], "0.1.0");
}

#[test]
fn the_program_gets_the_words_after_the_plugin_s_name_and_its_exit_code_is_kept() {
    let said = place().run(PLUGIN, ["--debug", "buildfleet", "create", "--name", "a b"]);
    assert_eq!((said.who().as_str(), said.code()), ("buildfleet", Some(7)));
    assert_eq!(said.words(), ["create", "--name", "a b"]);
}

#[test]
fn what_only_buildx_has_goes_to_the_real_one() {
    let mut place = Place::with_real();
    place.link(PLUGIN);
    place.set("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", "docker");
    let said = place.run(PLUGIN, ["-D", "buildfleet", "build", "--tag", "a b", "."]);
    assert_eq!((said.who().as_str(), said.code()), ("real/docker-buildx", Some(9)));
    assert_eq!(said.words(), ["-D", "buildx", "build", "--tag", "a b", "."]);
    assert_eq!(place.run(PLUGIN, ["buildfleet", "history", "ls"]).who(), "buildfleet");
}

#[test]
fn a_missing_program_is_an_error_with_a_hint() {
    let mut place = place();
    std::fs::remove_file(place.path("bin/buildfleet")).expect("ours");
    place.set("PATH", "/nonexistent");
    let said = place.run(PLUGIN, ["buildfleet", "ls"]);
    assert_eq!(said.code(), Some(127));
    let said = said.stderr();
    assert!(said.contains("found no `buildfleet`") && said.contains("hint: "), "{said}");
}

#[test]
fn a_program_that_does_not_know_its_name_says_so() {
    let place = Place::bare();
    place.link("bin/docker-compose");
    let said = place.run("bin/docker-compose", ["up"]);
    assert_eq!(said.code(), Some(2));
    assert!(said.stderr().contains("docker-buildfleet and docker-buildx"), "{}", said.stderr());
}
