//! What is found again, what is left out, and who may hold a state directory.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

use buildfleet_proto::buildkit::{ListWorkersResponse, WorkerRecord};

use super::*;
use crate::builder::{Endpoint, KubeContext, Node};
use crate::fleet::PingAnswer;

fn dir() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn stored(name: &str) -> StoredBuilder {
    let context = KubeContext::File { paths: vec!["/home/u/.kube/config".into()], context: "prod".to_owned() };
    let node = Node {
        name: format!("{name}0").parse().unwrap(),
        endpoint: Endpoint::Kubernetes(context),
        driver_opts: BTreeMap::from([("replicas".to_owned(), "2".to_owned())]),
        platforms: vec!["linux/arm64".parse().unwrap()],
        buildkitd_flags: vec!["--debug".to_owned()],
        config: None,
    };
    let builder = Builder { name: name.parse().unwrap(), nodes: vec![node] };
    StoredBuilder { builder, created: UNIX_EPOCH + Duration::from_secs(1_700_000_000) }
}

/// In whole seconds, as files have them.
fn finished() -> FinishedBuilds {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let when = |ago| UNIX_EPOCH + Duration::from_secs(now - ago);
    let pod = |name: &str| name.parse().unwrap();
    [("r1", pod("kube0-a"), when(7)), ("r2", pod("kube0-b"), when(5)), ("r\"3\n", pod("kube0-a"), when(3))]
        .into_iter()
        .collect()
}

#[test]
fn a_nodes_file_of_before_finished_builds_were_kept_is_read() {
    let text = r#"{"version":1,"stopped":true,"last_activity":1700000001}"#;
    let stored = format::parse_node(text).unwrap();
    assert!(stored.remembered.stopped && stored.last_activity.is_some());
    assert_eq!(stored.finished, FinishedBuilds::default());
    assert!(!format::node(&stored).contains("finished"), "what is empty is not written");
}

#[test]
fn a_builders_file_of_when_it_had_one_driver_is_read_and_written_anew() {
    let dir = dir();
    let (store, _) = Store::open(dir.path()).unwrap();
    drop(store);
    let file = dir.path().join("builders/kube.json");
    fs::write(&file, include_str!("../../../testdata/store/builder-v1.json")).unwrap();
    let (store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!((loaded.builders.as_slice(), loaded.warnings.len()), (&[stored("kube")][..], 0));
    let mut mixed = stored("kube");
    let local = Node { name: "lap".parse().unwrap(), endpoint: Endpoint::Local, ..mixed.builder.nodes[0].clone() };
    mixed.builder.nodes.push(local);
    store.save_builder(&mixed).unwrap();
    drop(store);
    assert!(fs::read_to_string(&file).unwrap().contains("\"version\": 2"));
    let (_store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.builders, [mixed]);
    assert_eq!(
        (loaded.builders[0].builder.driver(), loaded.builders[0].builder.drivers()),
        (None, "kubernetes, local".to_owned())
    );
}

#[test]
fn what_was_stored_is_found_again() {
    let dir = dir();
    let (store, loaded) = Store::open(dir.path()).unwrap();
    assert!(loaded.builders.is_empty() && loaded.warnings.is_empty());
    let (kube, arm) = (stored("kube"), stored("arm"));
    let workers = ListWorkersResponse { record: vec![WorkerRecord { id: "w".to_owned(), ..WorkerRecord::default() }] };
    let ping = PingAnswer { answer: vec![0, 255].into(), version: "buildkit v0.33.1".to_owned() };
    let node = StoredNode {
        remembered: Remembered { workers: Some(workers), ping: Some(ping), stopped: true },
        last_activity: Some(UNIX_EPOCH + Duration::from_secs(1_700_000_001)),
        finished: finished(),
    };
    store.save_builder(&kube).unwrap();
    store.save_builder(&arm).unwrap();
    store.save_node(&kube.builder.nodes[0].name, &node).unwrap();
    store.save_current(Some(&kube.builder.name)).unwrap();
    drop(store);

    let (store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.builders, [arm.clone(), kube.clone()]);
    assert_eq!(loaded.nodes, BTreeMap::from([(kube.builder.nodes[0].name.clone(), node)]));
    assert_eq!(loaded.current, Some(kube.builder.name.clone()));
    assert_eq!(loaded.warnings, [] as [&str; 0]);
    store.remove_builder(&kube.builder.name).unwrap();
    store.remove_node(&kube.builder.nodes[0].name).unwrap();
    store.save_current(None).unwrap();
    drop(store);

    let (_store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.builders, [arm]);
    assert!(loaded.nodes.is_empty() && loaded.current.is_none());
}

#[test]
fn an_answer_to_ping_of_which_the_version_was_not_stored_is_kept() {
    let dir = dir();
    let (store, _) = Store::open(dir.path()).unwrap();
    let kube = stored("kube");
    store.save_builder(&kube).unwrap();
    drop(store);
    fs::write(dir.path().join("nodes/kube0.json"), r#"{"version":1,"ping":"AP8=","stopped":false}"#).unwrap();
    let (_store, loaded) = Store::open(dir.path()).unwrap();
    let ping = loaded.nodes[&kube.builder.nodes[0].name].remembered.ping.clone();
    assert_eq!(ping, Some(PingAnswer { answer: vec![0, 255].into(), version: String::new() }));
}

#[test]
fn one_daemon_holds_a_state_directory() {
    let dir = dir();
    let (store, _) = Store::open(dir.path()).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::InUse(_))));
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_left_out_named_and_kept() {
    let whole = format::builder(&stored("kube"));
    for (content, problem) in [
        (whole[..whole.len() / 2].to_owned(), "broken: "),
        (String::new(), "broken: "),
        ("[]".to_owned(), "broken: "),
        (whole.replace("\"version\": 2", "\"version\": 3"), "version 3, this one reads version 1 and 2"),
        (whole.replace("\"name\": \"kube\"", "\"name\": \"other\""), "it holds builder other"),
        (whole.replace("linux/arm64", "arm64"), "platform `arm64`"),
    ] {
        let dir = dir();
        let (store, _) = Store::open(dir.path()).unwrap();
        store.save_builder(&stored("arm")).unwrap();
        drop(store);
        let file = dir.path().join("builders/kube.json");
        fs::write(&file, &content).unwrap();

        let (store, loaded) = Store::open(dir.path()).unwrap();
        assert_eq!(loaded.builders, [stored("arm")], "{content}");
        let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
        assert!(warning.contains(file.to_str().unwrap()) && warning.contains(problem), "{warning}");
        assert!(matches!(store.save_builder(&stored("kube")), Err(SaveError::Unreadable(path)) if path == file));
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
}

#[test]
fn what_is_broken_beside_builders_costs_no_builder() {
    let dir = dir();
    let (store, _) = Store::open(dir.path()).unwrap();
    store.save_builder(&stored("kube")).unwrap();
    drop(store);
    fs::write(dir.path().join("current.json"), "{").unwrap();
    fs::write(dir.path().join("nodes/kube0.json"), r#"{"version":1,"stopped":false,"workers":"///"}"#).unwrap();
    let (_store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.builders, [stored("kube")]);
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
}

#[test]
fn what_a_killed_daemon_left_unfinished_is_swept() {
    let dir = dir();
    drop(Store::open(dir.path()).unwrap());
    let left = ["current.json.unfinished", "builders/kube.json.unfinished", "nodes/kube0.json.unfinished"];
    for name in left {
        fs::write(dir.path().join(name), "{\"ver").unwrap();
    }
    let (_store, loaded) = Store::open(dir.path()).unwrap();
    assert!(loaded.builders.is_empty() && loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    for name in left {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
}

#[test]
fn a_state_directory_that_others_can_enter_is_refused() {
    let dir = dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::Directory(_))));
}
