//! A build that meets no pod: one is started, the user sees it as progress, and no clock of a client runs out.

use std::time::{Duration, Instant};

use buildfleet::backend::{PodPhase, StoryLine};
use buildfleet_proto::buildkit::StatusRequest;
use bytes::Bytes;
use tonic::Code;

use crate::support::buildkitd::seen::End;
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;
use crate::support::user::build::{Made, Watched};
use crate::support::user::plan::Part::{Bridge, Session, Solve, Status};
use crate::support::user::plan::Plan;

/// The step of ours in a build's progress, checked for what a client makes of one.
fn our_step(watched: &Watched, name: &str) -> buildfleet_proto::buildkit::Vertex {
    let told = watched.told();
    let ours: Vec<_> = told.iter().flat_map(|told| &told.vertexes).filter(|step| step.name.contains(name)).collect();
    let Some(last) = ours.last() else { panic!("no step {name}: {:?}", watched.vertices()) };
    let digest = last.digest.strip_prefix("sha256:").expect("a digest as BuildKit's");
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    assert!(ours.iter().all(|step| step.digest == last.digest && step.started.is_some()), "{ours:?}");
    assert!(ours[0].completed.is_none() && last.completed.is_some(), "{ours:?}");
    (*last).clone()
}

async fn starts(plan: Plan) {
    let front = Front::new();
    let user = front.user().await;
    let build = tokio::spawn(async move { user.build(plan).await });
    front.pods.first_order().await;
    let story = [StoryLine::plain("scheduled on node-a"), StoryLine::plain("pulling image moby/buildkit")];
    front.pods.set("kube0-a", PodPhase::Pending, &story);
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let pod = front.pod("kube0-a");
    let built = build.await.unwrap();
    assert_eq!(built.well()["bytes"], (1 << 20).to_string());
    assert_eq!((pod.seen.refs(), pod.seen.end("r1")), (vec!["r1".to_owned()], Some(End::Done)));
    let ours = our_step(&built.watched, "starting kube0");
    assert_eq!(ours.error, "");
    let names = built.watched.vertices();
    assert!(names[0] == ours.name && names[1] == "[kube0-a 1] context", "{names:?}");
    let logs = built.watched.logs();
    assert!(logs.contains("scheduled on node-a") && logs.contains("pulling image moby/buildkit"), "{logs}");
    assert_eq!(front.pods.orders(), [1]);
}

#[tokio::test]
async fn a_build_that_meets_no_pod_starts_one_and_shows_it() {
    let mut rows = Rows::default();
    rows.row("driven by its client", starts(Plan::new("r1").does("context log:1")));
    rows.row("with a frontend of its own", starts(Plan::new("r1").directly().does("context log:1")));
    let gap = Duration::from_millis(200);
    for order in [[Status, Session, Solve, Bridge], [Bridge, Solve, Session, Status], [Solve, Status, Bridge, Session]]
    {
        let plan = Plan::new("r1").does("context log:1").in_order(&order, gap);
        rows.row(format!("{order:?}"), starts(plan));
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_build_that_meets_a_ready_pod_shows_no_step_of_ours() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a"]).await;
    let built = front.user().await.build(Plan::new("r1").does("log:1")).await;
    built.well();
    assert_eq!(built.watched.vertices(), ["[kube0-a 1] log:1"]);
}

#[tokio::test]
async fn several_builds_that_meet_no_pod_give_one_order_and_all_show_the_start() {
    let front = Front::new();
    let users = [front.user().await, front.user().await, front.user().await];
    let builds = users.into_iter().enumerate().map(|(number, user)| {
        let plan = Plan::new(&format!("r{number}")).does("context");
        tokio::spawn(async move { user.build(plan).await })
    });
    let builds: Vec<_> = builds.collect();
    front.pods.first_order().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let pod = front.pod("kube0-a");
    for build in builds {
        let built = build.await.unwrap();
        built.well();
        our_step(&built.watched, "starting kube0");
    }
    assert_eq!(pod.seen.refs().len(), 3);
    assert_eq!(front.pods.orders(), [1]);
}

#[tokio::test]
async fn a_ping_is_answered_before_its_client_gives_up() {
    let front = Front::new();
    let user = front.user().await;
    let build = user.begin(Plan::new("r1").does("context"));
    front.pods.first_order().await;
    let begun = Instant::now();
    let pong = user.bridge_within("r1", "Ping", Bytes::new(), Duration::from_millis(4500)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(pong.len() > 1000, "{} bytes name no capabilities", pong.len());
    let _pod = front.pod("kube0-a");
    build.finish().await.well();
}

#[tokio::test]
async fn a_ping_is_answered_by_what_a_pod_of_the_node_said_before() {
    let front = Front::new();
    let [first] = front.ready_pods(["kube0-a"]).await;
    front.user().await.build(Plan::new("r1").does("context")).await.well();
    first.kill().await;
    front.pods.end("kube0-a", "Evicted");
    front.fleet.watch().wait_for(|snapshot| snapshot.ready == 0).await.map(drop).unwrap();
    let user = front.user().await;
    let build = user.begin(Plan::new("r2").does("context"));
    let begun = Instant::now();
    let pong = build.ping().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let said = String::from_utf8_lossy(&pong).into_owned();
    assert!(said.contains("kube0-a") && said.contains("source.cap.199"), "{} bytes", pong.len());
    let _second = front.pod("kube0-b");
    let built = build.finish().await;
    assert_eq!(built.pod(), "kube0-b");
}

async fn fails_to_start(plan: Plan) {
    let front = Front::with_timeout(Duration::from_secs(1));
    let story = [StoryLine::trouble("pull failed: registry.example/bk: not found")];
    front.pods.set("kube0-a", PodPhase::Pending, &story);
    let built = front.user().await.build(plan.clone()).await;
    assert!(built.took < Duration::from_millis(2500), "{:?}", built.took);
    let mut told = vec![built.error().clone()];
    if !plan.direct {
        told.push(built.gateway.clone().unwrap_err());
    }
    told.push(built.status.clone().unwrap().unwrap_err());
    for status in told {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().starts_with("node kube0 has 0 of 1 pods ready after 1."), "{status:?}");
        assert!(status.message().contains("kube0-a: pull failed: registry.example/bk: not found"), "{status:?}");
    }
    let ours = our_step(&built.watched, "starting kube0");
    assert!(ours.error.contains("pull failed"), "{ours:?}");
    assert!(built.watched.logs().contains("pull failed"), "{}", built.watched.logs());
}

#[tokio::test]
async fn a_start_that_fails_fails_every_call_of_the_build_with_the_story() {
    let mut rows = Rows::default();
    rows.row("driven by its client", fails_to_start(Plan::new("r1").does("context")));
    rows.row("with a frontend of its own", fails_to_start(Plan::new("r1").directly().does("context")));
    rows.pass().await;
}

#[tokio::test]
async fn after_a_failed_start_the_next_build_of_that_connection_begins_anew() {
    let front = Front::with_timeout(Duration::from_secs(1));
    let user = front.user().await;
    assert_eq!(user.build(Plan::new("r1").does("context")).await.error().code(), Code::Unavailable);
    let _pod = front.pod("kube0-a");
    user.build(Plan::new("r2").does("context")).await.well();
}

#[tokio::test]
async fn a_held_build_starts_pods_before_its_client_says_what_to_build() {
    let front = Front::new();
    let user = front.user().await;
    let parts = vec![Session, Solve, Status];
    let build = user.begin(Plan { order: parts, ..Plan::new("r1") });
    tokio::time::timeout(Duration::from_secs(2), front.pods.first_order()).await.expect("nothing was ordered");
    let pod = front.pod("kube0-a");
    eventually("a ready pod", || front.fleet.watch().borrow().ready == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(pod.seen.refs().is_empty(), "a pod got a build of which nothing is known");
    assert_eq!(front.running(), [("kube0-a".to_owned(), 0)]);
    build.cancel_solve();
}

#[tokio::test]
async fn a_probe_that_meets_no_pod_starts_one() {
    let front = Front::new();
    let user = front.user().await;
    let plan = Plan { internal: true, ..Plan::new("probe").does("log:1") };
    let build = tokio::spawn(async move { user.build(plan).await });
    front.pods.first_order().await;
    let _pod = front.pod("kube0-a");
    build.await.unwrap().well();
}

#[tokio::test]
async fn a_probe_that_wants_nothing_ends_at_once_without_a_pod_however_late_its_progress_is_asked_for() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    for (name, order) in [("early", &[Solve, Status][..]), ("late", &[Solve])] {
        let begun = Instant::now();
        let plan = Plan { internal: true, ..Plan::new(name).in_order(order, Duration::ZERO) };
        let probe = user.begin(plan);
        probe.ping().await.unwrap();
        probe.give_back(&Made::default()).await.unwrap();
        let built = probe.end(Ok(())).await;
        built.well();
        if name == "late" {
            let request = StatusRequest { r#ref: name.to_owned() };
            let mut told = user.control().status(request).await.unwrap().into_inner();
            assert!(told.message().await.unwrap().is_none());
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{name}: {:?}", begun.elapsed());
    }
    assert_eq!(pod.seen.refs(), [""; 0]);
}
