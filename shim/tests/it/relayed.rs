//! What goes to the real buildx goes as it came.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::place::{Place, Said, start};

const REAL: &str = "real/docker-buildx";

#[test]
fn arguments_environment_and_exit_code_are_those_of_a_direct_call() {
    let mut place = Place::with_real();
    place.set("DOCKER_CLI_PLUGIN_SOCKET", "@docker_cli_1");
    place.set("ODD", OsString::from_vec(b"\xff\xfe=x".to_vec()));
    place.set("EMPTY", "");
    let no_text = OsString::from_vec(b"a\xffb".to_vec());
    for (by_docker, args) in [
        (false, vec!["build".into(), "--tag".into(), "a b".into(), String::new().into(), ".".into()]),
        (false, vec![no_text.clone()]),
        (false, vec!["inspect".into(), no_text]),
        (false, vec!["ls".into(), "--nope".into()]),
        (false, vec![]),
        (true, vec!["--context".into(), "c".into(), "buildx".into(), "inspect".into()]),
        (true, vec!["buildx".into(), "build".into(), ".".into()]),
        (true, vec!["__complete".into(), "buildx".into(), "ins".into()]),
        (true, vec!["buildx".into(), "docker-cli-plugin-hooks".into(), "{}".into()]),
    ] {
        let args: Vec<OsString> = args;
        if by_docker {
            place.set("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", "docker");
        }
        let (shim, direct) = (place.run("docker/cli-plugins/docker-buildx", &args), place.run(REAL, &args));
        assert_eq!(shim.0, direct.0, "{args:?}");
        assert_eq!((shim.who().as_str(), shim.code()), (REAL, Some(9)), "{args:?}");
    }
    assert!(place.buildx("").has("EMPTY="));
}

#[test]
fn the_name_that_it_is_called_by_is_kept() {
    let mut place = Place::with_real();
    place.set("BUILDFLEET_BUILDX", "/bin/sh");
    let said = place.run("docker/cli-plugins/docker-buildx", ["-c", "tr '\\0' '\\n' < /proc/$$/cmdline"]);
    let plugin = place.path("docker/cli-plugins/docker-buildx");
    assert_eq!(said.stdout().lines().next(), plugin.to_str());
    let mut command = Command::new(&plugin);
    command.arg0("any-name/docker-buildx").args(["-c", "tr '\\0' '\\n' < /proc/$$/cmdline"]).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("BUILDFLEET_BUILDX", "/bin/sh");
    assert_eq!(Said::of(start(command)).who(), "any-name/docker-buildx");
}

#[test]
fn it_is_the_same_process() {
    let mut place = Place::with_real();
    place.set("BUILDFLEET_BUILDX", "/bin/sh");
    let mut command = Command::new(place.path("docker/cli-plugins/docker-buildx"));
    command.args(["-c", "echo $$"]).env("BUILDFLEET_BUILDX", "/bin/sh");
    let child = start(command);
    let pid = child.id().to_string();
    assert_eq!(Said::of(child).stdout().trim_end(), pid, "signals and the terminal are those of docker's child");
}

#[test]
fn off_hands_everything_on() {
    let mut place = Place::with_real();
    place.builder("kube", "remote");
    assert_eq!(place.buildx("ls").who(), "buildfleet");
    place.set("BUILDFLEET_SHIM", "off");
    for line in
        ["ls", "create --driver kubernetes", "inspect kube", "rm --all-inactive", "version", "build --builder kube ."]
    {
        let said = place.buildx(line);
        assert_eq!((said.who().as_str(), said.stderr().as_str()), (REAL, ""), "{line}");
        assert!(said.has("BUILDFLEET_SHIM=off"), "{line}");
    }
}

#[test]
fn a_version_is_the_real_one_s_with_a_word_of_who_stands_before_it() {
    let place = Place::with_real();
    let (shim, direct) = (place.buildx("version"), place.run(REAL, ["version"]));
    assert_eq!((shim.0.stdout, shim.0.status), (direct.0.stdout, direct.0.status));
    let said = String::from_utf8_lossy(&shim.0.stderr);
    assert!(
        said.lines().count() == 1 && said.contains("buildfleet v") && said.contains("BUILDFLEET_SHIM=off"),
        "{said}"
    );
}
