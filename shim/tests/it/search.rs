//! Which buildx is the real one.

use std::os::unix::fs::symlink;
use std::path::Path;

use buildfleet_shim::plugins::SYSTEM_DIRS;

use crate::place::Place;

const REAL: &str = "real/docker-buildx";

/// Which is found before what is on PATH, and cannot be taken away here.
fn one_for_all_users() -> bool {
    SYSTEM_DIRS.iter().any(|dir| Path::new(dir).join("docker-buildx").exists())
}

#[test]
fn the_one_that_install_remembered_comes_before_the_search() {
    let place = Place::with_real();
    place.real("extra/docker-buildx", "v1.0.0");
    place.write("docker/config.json", &format!(r#"{{"cliPluginsExtraDirs": ["{}"]}}"#, place.path("extra").display()));
    assert_eq!(place.buildx("ls").who(), REAL);
    // Upgraded in its place, it is still the one.
    place.real(REAL, "v9.9.10");
    assert_eq!(place.buildx("ls").who(), REAL);
    // Gone, it is looked for.
    std::fs::remove_file(place.path(REAL)).expect("ours");
    assert_eq!(place.buildx("ls").who(), "extra/docker-buildx");
}

#[test]
fn without_a_word_of_install_docker_s_order_decides() {
    let mut place = Place::bare();
    for dir in ["first", "second", "onpath"] {
        place.real(&format!("{dir}/docker-buildx"), "v1.0.0");
    }
    place.link("docker/cli-plugins/docker-buildx");
    let dirs = [place.path("first"), place.path("second")].map(|dir| dir.display().to_string());
    place.write("docker/config.json", &format!(r#"{{"cliPluginsExtraDirs": ["{}", "{}"]}}"#, dirs[0], dirs[1]));
    place.set("PATH", format!("{}:/usr/bin:/bin", place.path("onpath").display()));
    assert_eq!(place.buildx("ls").who(), "first/docker-buildx");
    std::fs::remove_file(place.path("first/docker-buildx")).expect("ours");
    assert_eq!(place.buildx("ls").who(), "second/docker-buildx");
    std::fs::remove_file(place.path("second/docker-buildx")).expect("ours");
    if !one_for_all_users() {
        assert_eq!(place.buildx("ls").who(), "onpath/docker-buildx");
    }
}

#[test]
fn it_never_finds_itself() {
    let place = Place::bare();
    place.link("docker/cli-plugins/docker-buildx");
    // A link, a link to a link, a hard link, and a copy.
    for dir in ["a", "b", "c", "d", "e"] {
        std::fs::create_dir(place.path(dir)).expect("ours");
    }
    place.link("a/docker-buildx");
    symlink(place.path("a/docker-buildx"), place.path("b/docker-buildx")).expect("ours");
    std::fs::hard_link(place.path("bin/docker-buildfleet"), place.path("c/docker-buildx")).expect("ours");
    place.copy_of_the_plugin("d/docker-buildx");
    // A copy that is of another version speaks for itself when it is asked, although it stands before a real one.
    place.real("e/docker-buildx", "v1.0.0");
    place.remember("d", "e/docker-buildx", "v1.0.0");
    let dirs: Vec<String> = ["a", "b", "c", "d", "e"].map(|dir| format!("{:?}", place.path(dir))).into();
    place.write("docker/config.json", &format!(r#"{{"cliPluginsExtraDirs": [{}]}}"#, dirs.join(", ")));
    assert_eq!(place.buildx("ls").who(), "e/docker-buildx");
}

#[test]
fn two_copies_do_not_call_each_other() {
    let mut place = Place::bare();
    place.link("docker/cli-plugins/docker-buildx");
    place.copy_of_the_plugin("d/docker-buildx");
    place.write("docker/config.json", &format!(r#"{{"cliPluginsExtraDirs": ["{}"]}}"#, place.path("d").display()));
    place.set("PATH", place.path("d"));
    if !one_for_all_users() {
        let said = place.buildx("ls");
        assert_eq!((said.code(), said.stdout().as_str()), (Some(127), ""));
        assert!(said.stderr().contains("found no docker-buildx besides buildfleet's own"), "{}", said.stderr());
        assert!(said.stderr().contains("hint: "), "{}", said.stderr());
    }
}

#[test]
fn a_variable_names_it() {
    let mut place = Place::with_real();
    place.real("named/docker-buildx", "v1.0.0");
    place.set("BUILDFLEET_BUILDX", place.path("named/docker-buildx"));
    assert_eq!(place.buildx("ls").who(), "named/docker-buildx");
    // What is no buildx to hand a command on to.
    place.script("named/docker", "echo docker");
    for other in
        ["off".into(), place.path("named/docker"), place.path("bin/docker-buildfleet"), "/nonexistent/x".into()]
    {
        place.set("BUILDFLEET_BUILDX", other.clone());
        assert_eq!(place.buildx("ls").who(), REAL, "{}", other.display());
    }
}

#[test]
fn on_path_it_is_a_program_of_its_own() {
    let mut place = Place::with_real();
    place.set("PATH", format!("{}:/usr/bin:/bin", place.path("docker/cli-plugins").display()));
    place.unset("DOCKER_CONFIG");
    // The remembered one lies beside the link, wherever docker's configuration is.
    place.script("call", "exec docker-buildx build .");
    let said = place.run("call", [""; 0]);
    assert_eq!((said.who().as_str(), said.words().join(" ").as_str()), (REAL, "build ."));
}
