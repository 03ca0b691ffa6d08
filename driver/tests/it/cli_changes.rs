//! What `create` shows of a cluster before and after it changes something, and how much `rm` takes away.

use crate::cli_daemon::{Machine, builder};

const DIFF: &str = "@@ -1,1 +1,1 @@\n-replicas: 1\n+replicas: 2\n";

fn machine() -> Machine {
    let machine = Machine::new().file(".kube/config", "");
    let run = machine.run_dir();
    machine.builder(builder(&run, "kube", "kubernetes", &["kube0"])).create_changes("deployment kube0", DIFF)
}

#[tokio::test]
async fn a_diff_is_the_output_and_nothing_is_created() {
    let machine = machine();
    let shown = machine.run("create --name kube --node kube0 --driver-opt replicas=2 --diff").await;
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(0), &*format!("deployment kube0:\n{DIFF}")), "{shown:?}");
    let asked = machine.created();
    assert!(asked.diff && asked.dry_run && !asked.manifests && !asked.force, "{asked:?}");
}

#[tokio::test]
async fn a_node_that_is_changed_shows_how_and_prints_its_builder() {
    let machine = machine();
    let changed = machine.run("create --name kube --node kube0 --driver-opt replicas=2 --force").await;
    assert_eq!((changed.code, changed.stdout.as_str()), (Some(0), "kube\n"), "{changed:?}");
    assert!(changed.stderr.starts_with(&format!("deployment kube0:\n{DIFF}")), "{changed:?}");
    assert!(machine.created().force && !machine.created().diff);
    let quiet = machine.run("-q create --name kube --node kube0").await;
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("kube\n", ""));
}

#[tokio::test]
async fn manifests_are_the_output_of_a_dry_run() {
    let machine = machine();
    let printed = machine.run("create --name new --dry-run -o yaml --attach pod/x").await;
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), "kind: Node\nname: new0\n"), "{printed:?}");
    assert!(machine.created().manifests && machine.created().attach == "pod/x");
    for line in [
        "create -o yaml",
        "create --dry-run -o json",
        "create --diff --bootstrap",
        "create --leave --name a --node b --diff",
    ] {
        assert_eq!(machine.run(line).await.code, Some(2), "{line}");
    }
}

#[tokio::test]
async fn what_is_undone_takes_neither_from_others_nor_what_was_kept() {
    let fails = || Machine::new().bootstrap(Vec::new(), Some(Err(tonic::Status::internal("no"))));
    // The scripted daemon says of a forced one that it takes up what was kept.
    for (words, undone) in [("", "remove kube and forget"), ("--force", "remove kube and forget but its state")] {
        let machine = fails();
        let failed = machine.run(&format!("create --name kube --driver local --bootstrap {words}")).await;
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert_eq!(machine.asked().last().map(String::as_str), Some(undone));
    }
}

#[tokio::test]
async fn rm_keeps_the_state_when_asked_to() {
    let machine = machine();
    assert_eq!(machine.run("rm kube --keep-state").await.code, Some(0));
    assert_eq!(machine.run("create --keep-state --name local").await.code, Some(2), "it is for --leave");
    assert_eq!(machine.asked(), ["remove kube but its state"]);
    let machine = self::machine();
    assert_eq!(machine.run("rm kube --keep-daemon").await.code, Some(0));
    assert_eq!(machine.asked(), ["remove kube but its pods"]);
}

#[tokio::test]
async fn a_node_that_leaves_may_keep_its_state_or_be_forgotten() {
    let machine = machine();
    let leave = "create --leave --name kube --node kube1 --keep-state --force";
    assert_eq!(machine.run(leave).await.code, Some(0));
    assert_eq!(machine.asked(), ["leave kube kube1 by force but its state"]);
}
