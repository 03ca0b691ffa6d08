//! What docker is told when it asks who `docker-buildx` is.

use serde_json::Value;

use crate::place::Place;

const PLUGIN: &str = "docker/cli-plugins/docker-buildx";

fn metadata(place: &Place) -> (String, String) {
    let said = place.run(PLUGIN, ["docker-cli-plugin-metadata"]);
    assert_eq!((said.code(), said.stderr().as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&said.stdout()).expect("it is JSON");
    assert_eq!(json["SchemaVersion"], "0.1.0");
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    (text("Vendor"), text("Version"))
}

fn pair(vendor: &str, version: &str) -> (String, String) {
    (vendor.to_owned(), version.to_owned())
}

#[test]
fn the_version_is_the_real_one_s_and_nobody_is_asked() {
    let mut place = Place::with_real();
    // Were it run, it would say something else.
    place.real("real/docker-buildx", "v0.0.1");
    place.remember("docker/cli-plugins", "real/docker-buildx", "v9.9.9");
    std::fs::remove_file(place.path("bin/buildfleet")).expect("ours");
    place.set("PATH", "/nonexistent");
    place.set("DOCKER_CONFIG", "/nonexistent");
    assert_eq!(metadata(&place), pair("The buildfleet authors", "v9.9.9"));
}

#[test]
fn what_was_remembered_of_another_file_is_not_told() {
    let place = Place::with_real();
    // An upgrade, of the same length.
    place.real("real/docker-buildx", "v9.9.8");
    assert_eq!(metadata(&place), pair("Docker Inc.", "v9.9.8"));
    place.remember("docker/cli-plugins", "real/docker-buildx", "v9.9.8");
    assert_eq!(metadata(&place), pair("The buildfleet authors", "v9.9.8"));
    place.write("docker/cli-plugins/buildfleet.json", "{");
    place.write("docker/config.json", &format!(r#"{{"cliPluginsExtraDirs": ["{}"]}}"#, place.path("real").display()));
    assert_eq!(metadata(&place), pair("Docker Inc.", "v9.9.8"));
}

#[test]
fn switched_off_it_is_the_real_one() {
    let mut place = Place::with_real();
    place.set("BUILDFLEET_SHIM", "off");
    assert_eq!(metadata(&place), pair("Docker Inc.", "v9.9.9"));
}

#[test]
fn asked_for_its_own_name_it_does_not_speak_for_another() {
    let mut place = Place::with_real();
    place.set("BUILDFLEET_SHIM", "name");
    assert_eq!(metadata(&place), pair("The buildfleet authors", concat!("v", env!("CARGO_PKG_VERSION"))));
}
