//! Builders between buildx's store and the daemon: all of one or nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli_daemon::{Machine, builder};

fn node(name: &str) -> Value {
    json!({"Name": name, "Endpoint": format!("kubernetes:///kube?deployment={name}&kubeconfig=%2Fk"), "Platforms": null,
        "DriverOpts": {"namespace": "ci"}, "Flags": ["--debug"], "Files": null})
}

fn kube() -> String {
    json!({"Name": "kube", "Driver": "kubernetes", "Nodes": [node("a"), node("b")], "Dynamic": false}).to_string()
}

/// A machine whose buildx has a builder of two nodes.
fn machine() -> Machine {
    Machine::new().file(".docker/buildx/instances/kube", &kube())
}

fn file(machine: &Machine, name: &str) -> PathBuf {
    Path::new(&machine.home()).join(name)
}

fn known(machine: &Machine, name: &str) -> String {
    fs::read_to_string(file(machine, ".docker/buildx/instances").join(name)).expect("buildx knows it")
}

#[tokio::test]
async fn an_import_asks_for_each_node_and_takes_its_place_in_buildx() {
    let machine = machine();
    let looked = machine.run("import kube --dry-run").await;
    assert_eq!((looked.code, machine.asked()), (Some(0), vec!["create kube".to_owned(); 2]), "{looked:?}");
    assert!(machine.created().dry_run && known(&machine, "kube") == kube());

    let imported = machine.run("import --all --format json").await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let told: Value = serde_json::from_str(&imported.stdout).unwrap();
    assert_eq!(
        (&told["Name"], &told["Result"], &told["Nodes"][1]["Name"]),
        (&json!("kube"), &json!("imported"), &json!("b"))
    );
    let asked = machine.created();
    assert!(asked.adopt && asked.append && !asked.dry_run, "{asked:?}");
    assert_eq!((asked.driver_opt[0].as_str(), asked.buildkitd_flags.as_str()), ("\"namespace=ci\"", "'--debug'"));
    assert_eq!(asked.kubeconfig.unwrap().paths, ["/k"]);
    let ours: Value = serde_json::from_str(&known(&machine, "kube")).unwrap();
    let endpoint = format!("unix://{}/nodes/b.sock", machine.run_dir());
    assert_eq!((&ours["Driver"], &ours["Nodes"][1]["Endpoint"]), (&json!("remote"), &json!(endpoint)));

    // And back, to the last byte of what it says.
    let exported = machine.run("export kube").await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let theirs: Value = serde_json::from_str(&known(&machine, "kube")).unwrap();
    assert_eq!(theirs, serde_json::from_str::<Value>(&kube()).unwrap());
    assert_eq!(machine.asked().last().map(String::as_str), Some("remove kube but its pods"));
    assert!(!file(&machine, ".local/state/buildfleet/imported/kube.json").exists());
}

#[tokio::test]
async fn a_node_that_fails_leaves_all_of_its_builder_where_it_was() {
    let machine = machine().create_refuses_node("b");
    let failed = machine.run("import kube").await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("failed to take over node b: the disk is full"), "{failed:?}");
    assert_eq!(machine.asked().last().map(String::as_str), Some("remove kube and forget but its pods"));
    assert_eq!(known(&machine, "kube"), kube());

    // Where nothing was made, nothing is forgotten either.
    let machine = self::machine().create_refuses_node("a");
    assert_eq!(machine.run("import kube").await.code, Some(1));
    assert_eq!(machine.asked(), ["create kube"; 3]);
}

#[tokio::test]
async fn an_export_that_the_daemon_refuses_changes_nothing_in_buildx() {
    let machine = Machine::new();
    let run = machine.run_dir();
    let ours = json!({"Name": "stuck", "Driver": "remote", "Nodes": [{"Name": "stuck0", "Endpoint": format!("unix://{run}/nodes/stuck0.sock")}]});
    let stuck = builder(&run, "stuck", "kubernetes", &["stuck0"]);
    let machine = machine.builder(stuck).file(".docker/buildx/instances/stuck", &ours.to_string());
    let failed = machine.run("export stuck").await;
    assert!(failed.code == Some(1) && failed.stderr.contains("failed to reach the API server"), "{failed:?}");
    assert_eq!(known(&machine, "stuck"), ours.to_string());

    let machine = Machine::new();
    let lap = builder(&machine.run_dir(), "lap", "local", &["lap0"]);
    let machine = machine.builder(lap);
    let refused = machine.run("export lap").await;
    assert!(refused.code == Some(1) && refused.stderr.contains("docker buildx has no driver"), "{refused:?}");
    assert_eq!(machine.asked(), [""; 0]);
    assert_eq!(machine.run("export --all").await.code, Some(0), "there is nothing that it could be");
}
