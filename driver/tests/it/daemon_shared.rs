//! Nodes whose pods others use, through the daemon's API: what `create` says before it stores anything, and what `rm` takes.

use std::sync::atomic::Ordering;

use buildfleet::backend::{Change, Obstacle, Preview, Removal, Sharing, Standing};
use buildfleet::daemon::hint::hints;
use buildfleet_proto::fleet::progress::Level;
use buildfleet_proto::fleet::{CreateRequest, LeaveRequest, RemoveRequest};
use tonic::Code;

use crate::support::daemon::{Home, append, kubernetes, told};

fn preview(standing: Standing, obstacles: &[&str]) -> Preview {
    let obstacle = |what: &&str| Obstacle { what: (*what).to_owned(), hint: format!("how out of {what}") };
    Preview {
        changes: vec![Change { object: "deployment kube0".to_owned(), diff: "-a\n+b\n".to_owned() }],
        exists: true,
        state: false,
        sharing: Some(Sharing { owner: "anna@laptop".to_owned(), others: vec!["anna@laptop (since then)".to_owned()] }),
        standing,
        obstacles: obstacles.iter().map(obstacle).collect(),
    }
}

#[tokio::test]
async fn what_cannot_be_is_said_before_anything_is_stored() {
    let home = Home::new();
    let mut daemon = home.start().await;
    let node = home.backends.node("kube0");
    *node.preview.lock().unwrap() = Some(preview(Standing::Own, &["volumes cannot shrink", "no such class"]));
    let status = daemon.create(kubernetes("kube")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "volumes cannot shrink\nno such class\ndeployment kube0:\n-a\n+b");
    assert_eq!(hints(&status), ["how out of volumes cannot shrink", "how out of no such class"]);
    assert!(daemon.list().await.builders.is_empty());
    daemon.end().await;
}

#[tokio::test]
async fn others_options_are_joined_when_they_agree_and_replaced_by_force_alone() {
    let home = Home::new();
    let mut daemon = home.start().await;
    let node = home.backends.node("kube0");
    *node.preview.lock().unwrap() = Some(preview(Standing::Differs, &["used by others"]));
    assert_eq!(
        daemon.create(kubernetes("kube")).await.unwrap_err().message(),
        "used by others\ndeployment kube0:\n-a\n+b"
    );
    let joined = || node.joined.load(Ordering::SeqCst);
    assert_eq!(joined(), 0);
    let created = daemon.create(CreateRequest { force: true, ..kubernetes("kube") }).await.unwrap();
    assert_eq!(created.warnings, ["the new options of node kube0 are also those of anna@laptop (since then)"]);
    assert_eq!((created.changes[0].object.as_str(), joined()), ("deployment kube0", 1));
    daemon.remove("kube", false).await.unwrap();

    *node.preview.lock().unwrap() = Some(preview(Standing::Joins, &[]));
    let diff = CreateRequest { diff: true, dry_run: true, ..kubernetes("kube") };
    assert_eq!(daemon.create(diff).await.unwrap().changes.len(), 1);
    assert_eq!(joined(), 1, "a look joins nothing");
    let created = daemon.create(kubernetes("kube")).await.unwrap();
    assert_eq!(created.warnings, ["node kube0 is shared: anna@laptop made it, used by anna@laptop (since then)"]);
    assert_eq!(joined(), 2);
    daemon.end().await;
}

#[tokio::test]
async fn rm_says_who_still_uses_what_it_leaves() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    let node = home.backends.node("kube0");
    *node.users.lock().unwrap() = vec!["bob@ci (since then)".to_owned()];
    let told = daemon.remove("kube", false).await.unwrap();
    assert_eq!(told[0].level(), Level::Warning);
    assert!(told[0].text.contains("others use them: bob@ci (since then)"), "{}", told[0].text);
    assert!(daemon.list().await.builders.is_empty(), "this daemon knows it no more");
    daemon.create(kubernetes("kube")).await.unwrap();
    daemon.remove("kube", true).await.unwrap();
    let removals = node.removals.lock().unwrap().clone();
    assert_eq!(removals, [Removal::default(), Removal { force: true, ..Removal::default() }]);
    daemon.end().await;
}

#[tokio::test]
async fn manifests_need_no_cluster_and_are_those_of_the_node() {
    let home = Home::new();
    let mut daemon = home.start().await;
    let asked = CreateRequest { dry_run: true, manifests: true, ..kubernetes("kube") };
    assert_eq!(daemon.create(asked).await.unwrap().manifests, "kind: Node\nname: kube0\n");
    assert!(daemon.list().await.builders.is_empty());
    daemon.end().await;
}

#[tokio::test]
async fn an_installation_keeps_its_id() {
    let home = Home::new();
    home.start().await.end().await;
    // A process that another test starts just now may hold the lock for a moment, until it runs its program.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let id = std::fs::read_to_string(home.path().join("state/installation")).unwrap();
    assert_eq!(id.trim().len(), 16, "{id}");
    home.start().await.end().await;
    assert_eq!(std::fs::read_to_string(home.path().join("state/installation")).unwrap(), id);
}

#[tokio::test]
async fn a_builder_that_is_let_go_keeps_its_pods_and_leaves_nothing_here() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    daemon.create(append("kube")).await.unwrap();
    let request = RemoveRequest { builder: "kube".to_owned(), keep_daemon: true, ..RemoveRequest::default() };
    let told = daemon.removed(request).await.unwrap();
    assert!(told.iter().all(|told| told.text == "let go: its pods stay as they are"), "{told:?}");
    for node in ["kube0", "kube1"] {
        let node = home.backends.node(node);
        assert_eq!(*node.removals.lock().unwrap(), [Removal { let_go: true, ..Removal::default() }]);
        assert_eq!(node.deleted.load(Ordering::SeqCst), 0);
    }
    assert!(daemon.list().await.builders.is_empty() && home.files("run/nodes").is_empty());

    let local = CreateRequest { driver: "local".to_owned(), kubeconfig: None, ..kubernetes("lap") };
    daemon.create(local).await.unwrap();
    let request = RemoveRequest { builder: "lap".to_owned(), keep_daemon: true, ..RemoveRequest::default() };
    let status = daemon.removed(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("node lap0 are processes of this daemon"), "{}", status.message());
    assert!(hints(&status)[0].contains("--keep-state"));
    assert_eq!(daemon.list().await.builders.len(), 1);
    daemon.end().await;
}

#[tokio::test]
async fn a_node_whose_cluster_refuses_leaves_by_force_alone() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    daemon.create(append("kube")).await.unwrap();
    let node = home.backends.node("kube1");
    node.refuses_delete.store(true, Ordering::SeqCst);
    let leave = |force| LeaveRequest { builder: "kube".to_owned(), node: "kube1".to_owned(), force, keep_state: true };
    let refused = told(daemon.client.leave(leave(false)).await.unwrap().into_inner()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(daemon.inspect("kube").await.unwrap().nodes.len(), 2);
    let told = told(daemon.client.leave(leave(true)).await.unwrap().into_inner()).await.unwrap();
    assert!(told[0].text.contains("left behind: failed to delete deployment builds/kube0"), "{told:?}");
    assert_eq!(daemon.inspect("kube").await.unwrap().nodes.len(), 1);
    assert_eq!(home.files("run/nodes"), ["kube0.sock"]);
    daemon.end().await;
}

#[tokio::test]
async fn a_workload_that_others_made_is_adopted_as_it_is_and_stays_so() {
    let home = Home::new();
    let mut daemon = home.start().await;
    *home.backends.node("kube0").of_others.lock().unwrap() = Some("deployment/kube0".parse().unwrap());
    let adopt = |request: CreateRequest| CreateRequest { adopt: true, ..request };
    let opts = vec!["requests.cpu=1,namespace=ci".to_owned()];
    let wanted = CreateRequest { driver_opt: opts, buildkitd_flags: "--debug".to_owned(), ..adopt(kubernetes("kube")) };
    let looked = daemon.create(CreateRequest { dry_run: true, ..wanted.clone() }).await.unwrap().builder.unwrap();
    assert_eq!(looked.nodes[0].endpoint, "kubernetes:///kube?attach=deployment/kube0&context=prod");
    assert!(daemon.list().await.builders.is_empty());
    daemon.create(wanted).await.unwrap();
    // Where nothing is there, it is a node of our own.
    daemon.create(adopt(append("kube"))).await.unwrap();
    daemon.end().await;

    let mut daemon = home.start().await;
    let builder = daemon.inspect("kube").await.unwrap();
    let (theirs, ours) = (&builder.nodes[0], &builder.nodes[1]);
    assert_eq!(theirs.endpoint, looked.nodes[0].endpoint);
    assert_eq!((theirs.driver_opts["requests.cpu"].as_str(), theirs.buildkitd_flags[0].as_str()), ("1", "--debug"));
    assert_eq!(theirs.kubeconfig.as_ref().unwrap().context, "prod");
    assert_eq!(ours.endpoint, "kubernetes:///kube?deployment=kube1&context=prod");
    // What can be said of pods of others can be said of these, and what buildx has made of them stays.
    let node = |request: CreateRequest| CreateRequest { node: "kube0".to_owned(), kubeconfig: None, ..request };
    let platform = vec!["linux/arm64".to_owned()];
    let changed = daemon.create(node(CreateRequest { platform, ..kubernetes("kube") })).await.unwrap().builder.unwrap();
    assert_eq!((changed.nodes[0].platforms.len(), &changed.nodes[0].driver_opts), (1, &theirs.driver_opts));
    let image = vec!["image=other".to_owned()];
    let refused = daemon.create(node(CreateRequest { driver_opt: image, ..kubernetes("kube") })).await.unwrap_err();
    assert!(refused.message().contains("not buildfleet's to change"), "{}", refused.message());
    daemon.end().await;
}
