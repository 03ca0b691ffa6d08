//! Who the daemon is to the cluster: accounts with just the documented rights, and credentials by exec plugins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::account::Account;
use crate::support::clock::seconds;
use crate::support::scene::Scene;

#[test]
fn each_transport_works_with_the_rights_that_the_documentation_names_for_it() {
    for (name, transport, rights) in [
        ("by-any", "auto", None),
        ("by-exec", "exec", Some("exec")),
        ("by-port-forward", "port-forward", Some("port-forward")),
        ("by-pod-ip", "pod-ip", Some("pod-ip")),
    ] {
        let mut scene = Scene::kube();
        let directory = scene.path("account");
        let kubeconfig = {
            let account = Account::make(scene.namespace(), directory, rights);
            account.kubeconfig("kubeconfig", &json!({ "token": account.token() }))
        };
        scene.set("KUBECONFIG", kubeconfig);
        let hello = scene.contexts().hello();
        let builder =
            scene.create(name, &format!("--driver kubernetes --driver-opt transport={transport} --bootstrap"));
        let pod = builder.has_ready(1).remove(0);
        builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
        builder.buildx(&hello, "").succeeds().says("CACHED");
        scene.buildfleet("logs").arg(format!("{name}0")).succeeds().says(&pod).says("running server on");
        builder.stop();
        builder.buildctl(&hello, "").succeeds();
        builder.remove();
        scene.has_no_builder();
        let objects = scene.namespace().objects();
        let kept: Vec<_> = objects.iter().filter(|name| !name.starts_with("pod/")).collect();
        let kept: Vec<_> = kept.iter().filter(|name| !name.starts_with("replicaset")).collect();
        assert_eq!(kept, [&"serviceaccount/buildfleet"], "{transport}");
    }
}

/// A credential plugin of the user: a script that notes that it ran.
fn plugin(scene: &Scene, lines: &str) -> (PathBuf, Value) {
    let script = scene.path("log-in");
    let text = format!("#!/bin/sh\necho ran >>{}\n{lines}\n", scene.path("log-in.log").display());
    fs::write(&script, text).expect("a file of our own");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a file of our own");
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": script,
        "interactiveMode": "IfAvailable",
    });
    (script, json!({ "exec": exec }))
}

fn times_run(scene: &Scene) -> usize {
    fs::read_to_string(scene.path("log-in.log")).unwrap_or_default().lines().count()
}

#[test]
fn credentials_come_from_an_exec_plugin() {
    let mut scene = Scene::kube();
    let kubeconfig = {
        let account = Account::make(scene.namespace(), scene.path("account"), None);
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": { "token": account.token() },
        });
        let (_, user) = plugin(&scene, &format!("cat <<'END'\n{credential}\nEND"));
        account.kubeconfig("kubeconfig", &user)
    };
    scene.set("KUBECONFIG", kubeconfig);
    let builder = scene.create("kube", "--driver kubernetes --bootstrap");
    assert!(times_run(&scene) > 0, "the plugin did not run");
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    builder.buildx(&hello, "").succeeds().says("CACHED");
    // Not for every request.
    assert!(times_run(&scene) < 5, "the plugin ran {} times", times_run(&scene));
    builder.remove();
    scene.has_no_builder();
    scene.namespace().kubectl("delete serviceaccount buildfleet").succeeds();
    scene.namespace().empties();
}

#[test]
fn an_exec_plugin_that_fails_is_named_with_what_it_said_and_nothing_is_left() {
    let mut scene = Scene::kube();
    let (script, kubeconfig) = {
        let account = Account::make(scene.namespace(), scene.path("account"), None);
        let (script, user) = plugin(&scene, "echo 'the session has expired, log in again' >&2\nexit 3");
        let kubeconfig = account.kubeconfig("kubeconfig", &user);
        account.remove();
        (script, kubeconfig)
    };
    scene.set("KUBECONFIG", kubeconfig);
    let failed = scene.buildfleet("create --name doomed --driver kubernetes --bootstrap --timeout 20s").fails();
    let failed = failed.says(script.to_str().expect("UTF-8")).says("the session has expired, log in again");
    failed.faster_than(seconds(10));
    assert!(times_run(&scene) > 0, "the plugin did not run");
    scene.has_no_builder();
    assert_eq!(scene.namespace().objects(), Vec::<String>::new());
}
