//! Stores as buildx v0.36 writes them.

use std::collections::BTreeMap;

use super::*;

const RUN: &str = "/run/buildfleet";

fn store(files: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is below")).expect("ours");
        std::fs::write(path, text).expect("ours");
    }
    let store = Store { dir: dir.path().to_owned() };
    (dir, store)
}

const KUBE: &str = r#"{"Name":"kube","Driver":"remote","Nodes":[{"Name":"kube0","Endpoint":"unix:///run/buildfleet/nodes/kube0.sock","Platforms":null,"DriverOpts":null,"Flags":null,"Files":null},{"Name":"kube1","Endpoint":"unix:///run/buildfleet/nodes/kube1.sock"}],"Dynamic":false}"#;
const BOX: &str = r#"{"Name":"box","Driver":"docker-container","Nodes":[{"Name":"box0","Endpoint":"unix:///var/run/docker.sock"}],"Dynamic":false}"#;

fn name(found: Result<Option<Instance>, StoreError>) -> Option<String> {
    found.expect("it can be read").map(|instance| instance.name)
}

#[test]
fn a_builder_is_ours_when_all_of_it_is() {
    let instance = |driver: &str, endpoints: &[&str]| Instance {
        name: "x".to_owned(),
        driver: driver.to_owned(),
        nodes: endpoints
            .iter()
            .map(|e| Node { name: "n".to_owned(), endpoint: (*e).to_owned(), ..Node::default() })
            .collect(),
    };
    for (instance, wanted) in [
        (instance("remote", &["unix:///run/buildfleet/nodes/kube0.sock"]), true),
        (instance("remote", &["unix:///run/buildfleet/nodes/a.sock", "unix:///run/buildfleet/nodes/b.sock"]), true),
        (instance("remote", &["unix:///run/buildfleet/nodes/a.sock", "tcp://10.0.0.1:1234"]), false),
        (instance("remote", &["unix:///run/buildfleet2/nodes/a.sock"]), false),
        (instance("remote", &["unix:///run/buildkit/buildkitd.sock"]), false),
        (instance("docker-container", &["unix:///run/buildfleet/nodes/kube0.sock"]), false),
        (instance("remote", &[]), false),
    ] {
        assert_eq!(instance.is_ours(Path::new(RUN)), wanted, "{instance:?}");
    }
}

#[test]
fn builders_are_found_by_name() {
    let (_dir, store) = store(&[("instances/kube", KUBE), ("instances/box", BOX), ("instances/broken", "{")]);
    let kube = store.instance("KUBE").expect("readable").expect("there");
    assert_eq!(kube.node("kube1").expect("it has two").endpoint, "unix:///run/buildfleet/nodes/kube1.sock");
    assert!(kube.is_ours(Path::new(RUN)));
    assert_eq!(kube.sockets().count(), 2);
    for no_name in ["other", "", "../current", "a/b", "1a", "default"] {
        assert_eq!(name(store.instance(no_name)), None, "{no_name}");
    }
    assert!(store.instance("broken").expect_err("it is").to_string().ends_with("is nothing that buildx writes"));
    let names: Vec<String> = store.instances().expect("readable").into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["box", "kube"]);
}

#[test]
fn all_that_a_node_was_created_with_is_read() {
    let text = r#"{"Name":"k","Driver":"kubernetes","Nodes":[{"Name":"k0","Endpoint":"kubernetes:///k?deployment=","Platforms":[{"architecture":"amd64","os":"linux"},{"architecture":"arm","os":"linux","variant":"v7"}],"DriverOpts":{"namespace":"ci"},"Flags":["--debug"],"Files":{"buildkitd.toml":"eA=="}}],"Dynamic":false}"#;
    let (_dir, store) = store(&[("instances/k", text)]);
    let node = store.instance("k").expect("readable").expect("there").nodes.remove(0);
    assert_eq!(node.platforms, ["linux/amd64", "linux/arm/v7"]);
    assert_eq!((node.driver_opts["namespace"].as_str(), node.flags.as_slice()), ("ci", &["--debug".to_owned()][..]));
    assert_eq!(node.files["buildkitd.toml"], "eA==");
}

#[test]
fn a_store_that_is_not_there_has_no_builders() {
    let store = Store { dir: "/nonexistent/buildx".into() };
    assert_eq!(store.instances().expect("nothing is there"), []);
    assert_eq!(name(store.instance("kube")), None);
    assert_eq!(name(store.current("unix:///var/run/docker.sock")), None);
}

#[test]
fn the_current_builder_as_buildx_finds_it() {
    let here = "unix:///var/run/docker.sock";
    let default = format!("defaults/{}", hash(here));
    let current = |text| ("current", text);
    for (files, wanted) in [
        (vec![], None),
        (vec![current(r#"{"Key":"unix:///var/run/docker.sock","Name":"kube","Global":false}"#)], Some("kube")),
        (vec![current(r#"{"Key":"other","Name":"kube","Global":false}"#)], None),
        (vec![current(r#"{"Key":"other","Name":"kube","Global":true}"#)], Some("kube")),
        // A builder that is gone.
        (vec![current(r#"{"Key":"unix:///var/run/docker.sock","Name":"gone","Global":false}"#)], None),
        (
            vec![current(r#"{"Key":"unix:///var/run/docker.sock","Name":"gone","Global":true}"#), (&default, "box")],
            None,
        ),
        (vec![current(r#"{"Key":"other","Name":"gone","Global":true}"#), (&default, "box")], Some("box")),
        // The context's own.
        (vec![current(r#"{"Key":"unix:///var/run/docker.sock","Name":"","Global":false}"#)], None),
        (vec![current(r#"{"Key":"other","Name":"kube","Global":false}"#), (&default, "box")], Some("box")),
        (vec![(default.as_str(), "box")], Some("box")),
        (vec![(default.as_str(), "gone")], None),
    ] {
        let (_dir, store) = store(&[&files[..], &[("instances/kube", KUBE), ("instances/box", BOX)]].concat());
        assert_eq!(name(store.current(here)).as_deref(), wanted, "{files:?}");
    }
    let (_dir, store) = store(&[("current", "{")]);
    assert!(store.current(here).is_err());
}

#[test]
fn the_file_of_a_default_is_the_beginning_of_a_sha256() {
    // printf unix:///var/run/docker.sock | sha256sum | cut -c1-20
    assert_eq!(hash("unix:///var/run/docker.sock"), "13c4025c96f36e94b348");
}

#[test]
fn where_the_store_is() {
    for (variables, wanted) in [
        (vec![("BUILDX_CONFIG", "/b"), ("DOCKER_CONFIG", "/d"), ("HOME", "/h")], Some("/b")),
        (vec![("DOCKER_CONFIG", "/d"), ("HOME", "/h")], Some("/d/buildx")),
        (vec![("HOME", "/h")], Some("/h/.docker/buildx")),
        (vec![], None),
    ] {
        let environment: BTreeMap<&str, &str> = variables.into_iter().collect();
        let found = Store::find(&environment, &Globals::default());
        assert_eq!(found.map(|store| store.dir), wanted.map(PathBuf::from));
    }
}
