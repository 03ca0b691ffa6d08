//! Nodes whose pods others use, through the daemon's API: what `create` says before it stores anything, and what `rm` takes.

use buildfleet::backend::{Change, Obstacle, Preview, Removal, Sharing, Standing};
use buildfleet::daemon::hint::hints;
use buildfleet_proto::fleet::CreateRequest;
use buildfleet_proto::fleet::progress::Level;
use tonic::Code;

use crate::support::daemon::{Home, kubernetes};

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
    let joined = || node.joined.load(std::sync::atomic::Ordering::SeqCst);
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
    assert_eq!(removals, [Removal::default(), Removal { force: true, keep_state: false }]);
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
