//! Objects that several daemons use, or that somebody else changes: what is applied, refused, shown and left alone.

use std::time::Duration;

use buildfleet::backend::kubernetes::KubernetesBackend;
use buildfleet::backend::{Backend, Removal, Removed, Standing};
use buildfleet::report::chain;
use serde_json::{Value, json};

use crate::kubernetes::{node, seen};
use crate::support::api_server::ApiServer;

fn daemon(server: &ApiServer, who: &str, opts: &[&str]) -> KubernetesBackend {
    KubernetesBackend::start(node(server.context(), opts, who))
}

fn image(server: &ApiServer) -> Value {
    server.object("deployments").unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

fn replicas(server: &ApiServer) -> Value {
    server.object("deployments").unwrap()["spec"]["replicas"].clone()
}

fn notes(server: &ApiServer) -> Vec<String> {
    let deployment = server.object("deployments").unwrap();
    let annotations = deployment["metadata"]["annotations"].as_object().unwrap();
    let notes = annotations.keys().filter_map(|name| name.strip_prefix("buildfleet.internal/"));
    notes.map(str::to_owned).collect()
}

const ONE: &[&str] = &["image=one", "transport=exec"];
const TWO: &[&str] = &["image=two,replicas=2", "transport=exec"];

#[tokio::test]
async fn who_made_it_and_who_uses_it_is_on_the_workload() {
    let server = ApiServer::start().await;
    let (anna, bob) = (daemon(&server, "anna", ONE), daemon(&server, "bob", ONE));
    anna.apply(1).await.unwrap();
    assert_eq!(notes(&server), ["applied", "owner", "replicas", "user.anna-id"]);
    bob.apply(1).await.unwrap();
    assert_eq!(notes(&server), ["applied", "owner", "replicas", "user.anna-id", "user.bob-id"]);
    let annotations = &server.object("deployments").unwrap()["metadata"]["annotations"];
    assert_eq!(annotations["buildfleet.internal/owner"], "anna@laptop anna-id");
    let pods = seen(&anna, |pods| pods.sharing.as_ref().is_some_and(|sharing| !sharing.others.is_empty())).await;
    let sharing = pods.sharing.unwrap();
    assert_eq!(sharing.owner, "anna@laptop");
    assert!(sharing.others[0].starts_with("bob@laptop (since 2"), "{sharing:?}");
}

#[tokio::test]
async fn one_daemons_rm_does_not_take_away_what_another_uses() {
    let server = ApiServer::start().await;
    let (anna, bob) = (daemon(&server, "anna", &[]), daemon(&server, "bob", &[]));
    anna.apply(1).await.unwrap();
    bob.apply(1).await.unwrap();
    let Removed::Released { users } = anna.delete(Removal::default()).await.unwrap() else { panic!("removed") };
    assert!(users.len() == 1 && users[0].starts_with("bob@laptop"), "{users:?}");
    assert!(server.object("deployments").is_some() && server.object("secrets").is_some());
    assert!(!notes(&server).contains(&"user.anna-id".to_owned()), "{:?}", notes(&server));
    // The last one takes all of it along.
    assert_eq!(bob.delete(Removal::default()).await.unwrap(), Removed::gone());
    assert_eq!((server.object("deployments"), server.object("secrets")), (None, None));

    anna.apply(1).await.unwrap();
    bob.apply(1).await.unwrap();
    assert_eq!(anna.delete(Removal { force: true, ..Removal::default() }).await.unwrap(), Removed::gone());
    assert_eq!((server.object("deployments"), server.object("secrets")), (None, None));
}

#[tokio::test]
async fn who_lets_go_takes_away_their_own_note_alone() {
    let server = ApiServer::start().await;
    let (anna, bob) = (daemon(&server, "anna", &[]), daemon(&server, "bob", &[]));
    let let_go = Removal { let_go: true, ..Removal::default() };
    assert_eq!(anna.delete(let_go).await.unwrap(), Removed::LetGo, "nothing is there");
    anna.apply(1).await.unwrap();
    bob.apply(1).await.unwrap();
    for (backend, left) in [(&anna, &["user.bob-id"][..]), (&bob, &[])] {
        assert_eq!(backend.delete(let_go).await.unwrap(), Removed::LetGo);
        let notes = notes(&server);
        let users: Vec<&String> = notes.iter().filter(|note| note.starts_with("user.")).collect();
        assert_eq!(users, left);
        assert!(server.object("secrets").is_some() && replicas(&server) == json!(1));
    }
}

#[tokio::test]
async fn options_stay_as_the_last_explicit_command_made_them() {
    let server = ApiServer::start().await;
    let (anna, bob) = (daemon(&server, "anna", ONE), daemon(&server, "bob", ONE));
    anna.apply(1).await.unwrap();
    bob.apply(1).await.unwrap();
    // Anna gives the node other options: her daemon has another backend then.
    let anna = daemon(&server, "anna", TWO);
    anna.apply(2).await.unwrap();
    assert_eq!((image(&server), replicas(&server)), (json!("two"), json!(2)));
    // Bob's daemon starts and stops pods, and changes nothing else.
    for (order, wanted) in [(1, 2), (0, 0), (1, 2)] {
        bob.apply(order).await.unwrap();
        assert_eq!((image(&server), replicas(&server)), (json!("two"), json!(wanted)), "after {order}");
    }
    // Until he says so himself.
    node(server.context(), ONE, "bob").join().await.unwrap();
    bob.apply(1).await.unwrap();
    assert_eq!((image(&server), replicas(&server)), (json!("one"), json!(1)));
    anna.apply(2).await.unwrap();
    assert_eq!((image(&server), replicas(&server)), (json!("one"), json!(1)), "no two daemons fight");
}

#[tokio::test]
async fn who_never_joined_is_refused_with_the_owner_and_the_way_out() {
    let server = ApiServer::start().await;
    daemon(&server, "anna", ONE).apply(1).await.unwrap();
    let preview = node(server.context(), TWO, "bob").preview().await.unwrap();
    assert_eq!(preview.standing, Standing::Differs);
    assert!(preview.obstacles[0].what.contains("is used by anna@laptop"), "{preview:?}");
    let diff = &preview.changes[0].diff;
    assert!(
        diff.contains("image: one\n") && diff.contains("image: two\n") && diff.contains("+  replicas: 2\n"),
        "{diff}"
    );
    let error = daemon(&server, "bob", TWO).apply(2).await.unwrap_err();
    assert!(chain(&error).contains("anna@laptop made it"), "{}", chain(&error));
    assert!(error.hint().unwrap().contains("--force"), "{:?}", error.hint());
    assert_eq!(image(&server), "one");
    assert_eq!(node(server.context(), ONE, "bob").preview().await.unwrap().standing, Standing::Joins);
}

#[tokio::test]
async fn what_buildfleet_did_not_make_is_left_alone() {
    let server = ApiServer::start().await;
    let theirs = json!({"metadata": {"name": "kube0"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": {}}});
    server.put("deployments", theirs);
    let anna = daemon(&server, "anna", &["transport=exec"]);
    let error = anna.apply(1).await.unwrap_err();
    assert!(chain(&error).ends_with("deployment kube0 is there and was not made by buildfleet"), "{}", chain(&error));
    assert!(error.hint().unwrap().contains("--attach deployment/kube0"));
    for force in [false, true] {
        let removal = Removal { force, ..Removal::default() };
        assert_eq!(anna.delete(removal).await.unwrap(), Removed::Released { users: Vec::new() }, "force: {force}");
    }
    assert!(server.object("deployments").is_some());
}

#[tokio::test]
async fn a_preview_changes_nothing_and_shows_old_and_new() {
    let server = ApiServer::start().await;
    assert!(!node(server.context(), ONE, "anna").preview().await.unwrap().exists);
    let anna = daemon(&server, "anna", ONE);
    anna.apply(1).await.unwrap();
    let before = server.object("deployments").unwrap();
    assert_eq!(node(server.context(), ONE, "anna").preview().await.unwrap().changes, []);
    let preview = node(server.context(), TWO, "anna").preview().await.unwrap();
    assert_eq!((preview.standing, preview.obstacles.len()), (Standing::Own, 0));
    assert_eq!(preview.changes[0].object, "deployment kube0");
    assert_eq!(server.object("deployments").unwrap(), before);
    // A stop is no change of the options, and is not undone by a look at them.
    anna.apply(0).await.unwrap();
    assert_eq!(node(server.context(), ONE, "anna").preview().await.unwrap().changes, []);
    let diff = node(server.context(), TWO, "anna").preview().await.unwrap().changes[0].diff.clone();
    assert!(diff.contains("-  replicas: 1\n+  replicas: 2\n"), "{diff}");
}

#[tokio::test]
async fn what_somebody_else_changes_is_noticed_named_and_repaired() {
    let server = ApiServer::start().await;
    let anna = daemon(&server, "anna", ONE);
    anna.apply(1).await.unwrap();
    seen(&anna, |pods| pods.known && pods.applied).await;
    server.edit("deployments", |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil"));
    let drift = seen(&anna, |pods| pods.drift.is_some()).await.drift.unwrap();
    assert_eq!(
        drift,
        "deployment kube0 was changed by kubectl-edit: spec.template.spec.containers[buildkitd].image one -> evil; \
         the next bootstrap repairs it"
    );
    anna.apply(1).await.unwrap();
    assert_eq!(image(&server), "one");
    seen(&anna, |pods| pods.drift.is_none()).await;
    // Stops and starts are nobody's interference.
    anna.apply(0).await.unwrap();
    anna.apply(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(anna.pods().borrow().drift, None);

    server.edit("deployments", |object| object["spec"]["replicas"] = json!(7));
    let drift = seen(&anna, |pods| pods.drift.is_some()).await.drift.unwrap();
    assert!(drift.contains("spec.replicas 1 -> 7"), "{drift}");
    server.remove("deployments", "kube0");
    seen(&anna, |pods| pods.drift.as_ref().is_some_and(|drift| drift.contains("was deleted by somebody else"))).await;
    anna.apply(1).await.unwrap();
    seen(&anna, |pods| pods.drift.is_none() && pods.applied).await;
    anna.delete(Removal::default()).await.unwrap();
    let pods = seen(&anna, |pods| !pods.applied).await;
    assert_eq!(pods.drift, None);
}

#[tokio::test]
async fn a_daemon_that_comes_later_notices_what_was_changed_before() {
    let server = ApiServer::start().await;
    daemon(&server, "anna", ONE).apply(1).await.unwrap();
    server.edit("deployments", |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil"));
    let later = daemon(&server, "anna", ONE);
    seen(&later, |pods| pods.drift.as_ref().is_some_and(|drift| drift.contains("one -> evil"))).await;
    assert_eq!(image(&server), "evil", "a look changes nothing");
}

#[tokio::test]
async fn other_options_of_another_daemon_are_told_as_such() {
    let server = ApiServer::start().await;
    let (anna, bob) = (daemon(&server, "anna", ONE), daemon(&server, "bob", ONE));
    anna.apply(1).await.unwrap();
    bob.apply(1).await.unwrap();
    daemon(&server, "bob", TWO).apply(2).await.unwrap();
    let drift = seen(&anna, |pods| pods.drift.is_some()).await.drift.unwrap();
    assert!(drift.contains("given by one of bob@laptop") && drift.contains("image one -> two"), "{drift}");
}

#[tokio::test]
async fn what_other_options_left_goes_with_the_next_order() {
    let server = ApiServer::start().await;
    daemon(&server, "anna", &[]).apply(1).await.unwrap();
    assert!(server.object("secrets").is_some());
    let budget = json!({"metadata": {"name": "kube0"}, "spec": {"maxUnavailable": 0}});
    server.put("poddisruptionbudgets", budget);
    let anna = daemon(&server, "anna", &["transport=exec"]);
    anna.apply(1).await.unwrap();
    assert_eq!((server.object("secrets"), server.object("poddisruptionbudgets")), (None, None));
    // Once, and not with every order.
    let swept = server.requests().len();
    anna.apply(1).await.unwrap();
    let later = server.requests()[swept..].to_vec();
    assert!(later.iter().all(|request| !request.starts_with("DELETE")), "{later:?}");
    let without_watches: Vec<&String> = later.iter().filter(|request| !request.starts_with("WATCH")).collect();
    assert_eq!(without_watches, ["LIST deployments", "PATCH deployments"]);
}

#[tokio::test]
async fn rights_that_the_options_do_not_need_are_not_demanded() {
    let server = ApiServer::start().await;
    for what in [
        "LIST statefulsets",
        "DELETE statefulsets",
        "DELETE poddisruptionbudgets",
        "DELETE secrets",
        "GET secrets",
        "GET poddisruptionbudgets",
    ] {
        server.refuse(what, 403, "no such right");
    }
    let anna = daemon(&server, "anna", ONE);
    anna.apply(1).await.unwrap();
    assert_eq!(node(server.context(), TWO, "anna").preview().await.unwrap().changes.len(), 1);
    assert_eq!(anna.delete(Removal::default()).await.unwrap(), Removed::gone());
    assert!(server.requests().iter().all(|request| !request.contains("persistentvolumeclaims")));
}

#[tokio::test]
async fn use_is_noted_when_the_last_note_is_old_and_costs_nothing_before() {
    let server = ApiServer::start().await;
    let anna = daemon(&server, "anna", ONE);
    anna.apply(1).await.unwrap();
    seen(&anna, |pods| pods.applied).await;
    let patches = || server.requests().iter().filter(|asked| *asked == "PATCH deployments").count();
    let before = patches();
    anna.note_use().await.unwrap();
    assert_eq!(patches(), before, "it was noted a moment ago");
    let name = "buildfleet.internal/user.anna-id";
    let note = || server.object("deployments").unwrap()["metadata"]["annotations"][name].as_str().unwrap().to_owned();
    let options = note().rsplit_once(' ').unwrap().1.to_owned();
    let old = format!("anna@laptop 2026-01-01T00:00:00Z {options}");
    server.edit("deployments", |object| object["metadata"]["annotations"][name] = json!(old));
    seen(&anna, |pods| pods.drift.is_none() && pods.applied).await;
    // The watch tells it a moment later.
    for _ in 0..100 {
        anna.note_use().await.unwrap();
        if note() != old {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(note() != old && note().ends_with(&options) && note().starts_with("anna@laptop 2"), "{}", note());
    // Who does not use it, or not any more, is not made a user by this.
    daemon(&server, "bob", ONE).note_use().await.unwrap();
    assert!(!notes(&server).contains(&"user.bob-id".to_owned()));
}
