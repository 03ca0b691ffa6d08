//! The calls of a build arrive in any order, early, late or never: they meet on one pod, and on no other.

use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::StatusRequest;
use bytes::Bytes;
use tonic::Code;

use crate::support::buildkitd::seen::End;
use crate::support::buildkitd::{Clocks, FakeBuildkitd};
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;
use crate::support::user::User;
use crate::support::user::plan::Part::{self, Bridge, Session, Solve, Status};
use crate::support::user::plan::Plan;

const GAP: Duration = Duration::from_millis(40);

/// All orders of these.
fn orders(parts: &[Part]) -> Vec<Vec<Part>> {
    if parts.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in parts.iter().enumerate() {
        let rest = [&parts[..place], &parts[place + 1..]].concat();
        all.extend(orders(&rest).into_iter().map(|order| [&[*first][..], &order].concat()));
    }
    all
}

/// The build ran on one of the pods, whose name it tells; the others heard nothing of it, and all is over everywhere.
async fn only_on_its_pod(pods: &[FakeBuildkitd], plan: &Plan, pod: &str) {
    for buildkitd in pods {
        let seen = &buildkitd.seen;
        if buildkitd.name == pod {
            assert_eq!(seen.refs(), [plan.r#ref.as_str()], "{pod}");
            assert_eq!(seen.end(&plan.r#ref), Some(End::Done));
        } else {
            assert!(seen.refs().is_empty() && seen.statuses().is_empty(), "{}: {seen:?}", buildkitd.name);
            assert!(seen.bridge(&plan.r#ref).is_empty(), "{}: {seen:?}", buildkitd.name);
            assert!(seen.attached(&plan.session).is_empty(), "{}: {seen:?}", buildkitd.name);
        }
        eventually("the end of all calls", || seen.is_quiet()).await;
    }
}

async fn builds_in_order(plan: Plan) {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
    let built = front.user().await.build(plan.clone()).await;
    let response = built.well();
    assert_eq!(response["bytes"], (1 << 20).to_string());
    let lines = format!("[{} 2] log:2", built.pod());
    assert!(built.watched.vertices().contains(&lines), "{built:#?}");
    assert_eq!(built.watched.logs(), "line 1\nline 2\n");
    only_on_its_pod(&pods, &plan, built.pod()).await;
    eventually("an idle fleet", || front.running().iter().all(|(_, builds)| *builds == 0)).await;
}

#[tokio::test]
async fn every_order_of_arrival_makes_a_build() {
    let mut rows = Rows::default();
    for order in orders(&[Session, Solve, Status, Bridge]) {
        let plan = Plan::new("r1").does("context log:2").in_order(&order, GAP);
        rows.row(format!("{order:?}"), builds_in_order(plan));
    }
    rows.pass().await;
}

#[tokio::test]
async fn every_order_of_arrival_makes_a_build_that_its_client_does_not_drive() {
    let mut rows = Rows::default();
    for order in orders(&[Session, Solve, Status]) {
        let plan = Plan::new("r1").directly().does("context log:2").in_order(&order, GAP);
        rows.row(format!("{order:?}"), builds_in_order(plan));
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_part_that_comes_late_is_waited_for() {
    let mut rows = Rows::default();
    let late = Duration::from_millis(400);
    let plan = |order: &[Part]| Plan::new("r1").does("context log:2").in_order(order, late);
    rows.row("a session after all else", builds_in_order(plan(&[Bridge, Solve, Status, Session])));
    rows.row("a session after Solve", builds_in_order(plan(&[Solve, Session, Bridge, Status])));
    rows.row("the client's own calls after all else", builds_in_order(plan(&[Session, Solve, Status, Bridge])));
    rows.row("Solve after all else", builds_in_order(plan(&[Bridge, Status, Session, Solve])));
    let direct = plan(&[Solve, Status, Session]).directly();
    rows.row("a session after a Solve with a frontend", builds_in_order(direct));
    rows.pass().await;
}

#[tokio::test]
async fn a_session_may_come_when_the_frontend_runs_already() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let user = front.user().await;
    let parts = [Solve, Status, Bridge];
    let plan = Plan::new("r1").does("sleep:200 context").builds("context");
    let build = user.begin(Plan { order: parts.to_vec(), ..plan.clone() });
    let opening = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        user.begin(Plan { order: vec![Session], ..plan })
    };
    let (built, _session) = tokio::join!(build.finish(), opening);
    assert_eq!(built.well()["bytes"], (2 << 20).to_string());
}

#[tokio::test]
async fn a_build_that_its_pod_refuses_is_soon_over_for_all_its_calls() {
    let front = Front::new();
    let pod = FakeBuildkitd::start_with("kube0-a", front.directory(), Clocks::REAL);
    front.pods.run(&pod.name, &pod.socket);
    front.fleet.watch().wait_for(|snapshot| snapshot.ready == 1).await.map(drop).unwrap();
    let begun = Instant::now();
    let built = front.user().await.build(Plan::new("r1").exporter("nowhere", &[])).await;
    assert!(built.error().message().contains("could not be found"), "{built:#?}");
    assert_eq!(built.gateway.as_ref().unwrap_err().message(), "no such job r1");
    assert!(built.status.as_ref().unwrap().is_ok(), "{built:#?}");
    // BuildKit, which never knew it, looks for it: 3 s for each call of the gateway, and 6 s for its progress.
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_status_of_a_build_that_has_ended_is_told_again() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
    let built = front.user().await.build(Plan::new("r1").does("log:2")).await;
    built.well();
    // From another process, as `buildx history logs` does.
    let request = StatusRequest { r#ref: "r1".to_owned() };
    let mut told = front.client().await.status(request).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(response) = told.message().await.unwrap() {
        names.extend(response.vertexes.into_iter().map(|vertex| vertex.name));
    }
    assert!(names.contains(&format!("[{} 1] log:2", built.pod())), "{names:?}");
}

#[tokio::test]
async fn a_build_whose_session_never_comes_fails_in_the_pods_own_words() {
    let mut rows = Rows::default();
    let nobody = || Plan::new("r1").in_session("nobody").does("context");
    let other = Plan::new("r1").does("context").option("local-sessionid:context", "nobody");
    for (name, plan) in [
        ("the session of a build that its client drives", nobody()),
        ("the session of a build with a frontend", nobody().directly()),
        ("the session of a local directory", other.clone()),
        ("the session of a local directory, with a frontend", other.directly()),
        ("the session of a source policy", Plan { policy_session: "nobody".into(), ..Plan::new("r1").does("policy") }),
        ("the session of an export", Plan::new("r1").in_session("nobody").exports(100)),
    ] {
        rows.row(name, async move {
            let front = Front::new();
            let [pod, _other] = front.ready_pods(["kube0-a", "kube0-b"]).await;
            let built = front.user().await.build(plan).await;
            assert_eq!(built.error().message(), "no active session for nobody: context deadline exceeded");
            assert!(built.took < Duration::from_secs(6), "{:?}", built.took);
            eventually("the end of all calls", || pod.seen.is_quiet()).await;
        });
    }
    rows.pass().await;
}

async fn refused(front: Front, refs: &'static [&'static str], code: Code, words: &'static str) {
    let user = front.user().await;
    let begun = Instant::now();
    let status = user.bridge_raw(refs, "Ping", Bytes::new()).await.unwrap_err();
    assert!(status.code() == code && status.message().contains(words), "{status:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

async fn no_such_status(front: Front) {
    let begun = Instant::now();
    let request = StatusRequest { r#ref: "unknown".to_owned() };
    let status = match front.client().await.status(request).await {
        Err(status) => status,
        Ok(told) => told.into_inner().message().await.unwrap_err(),
    };
    assert!(status.code() == Code::NotFound && status.message().contains("no such job unknown"), "{status:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(front.pods.orders(), [0_u32; 0], "a question about the past starts no pod");
}

#[tokio::test]
async fn a_call_for_a_build_that_is_not_there_is_refused_in_time() {
    let mut rows = Rows::default();
    rows.row("LLBBridge of an unknown build", async {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a"]).await;
        refused(front, &["unknown"], Code::NotFound, "no such job unknown").await;
    });
    rows.row("LLBBridge of an unknown build, without a pod", async {
        refused(Front::new(), &["unknown"], Code::NotFound, "no such job unknown").await;
    });
    rows.row("LLBBridge of no build", async {
        refused(Front::new(), &[], Code::InvalidArgument, "buildkit-controlapi-buildid").await;
    });
    rows.row("LLBBridge of two builds", async {
        refused(Front::new(), &["r1", "r2"], Code::InvalidArgument, "buildkit-controlapi-buildid").await;
    });
    rows.row("Status of an unknown build", async {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
        no_such_status(front).await;
    });
    rows.row("Status of an unknown build, without a pod", no_such_status(Front::new()));
    rows.pass().await;
}

#[tokio::test]
async fn one_ref_on_two_nodes_is_two_builds() {
    let nodes = [Front::new(), Front::new()];
    let [[first], [second]] = [nodes[0].ready_pods(["kube0-a"]).await, nodes[1].ready_pods(["kube1-a"]).await];
    let users = [nodes[0].user().await, nodes[1].user().await];
    let plan = || Plan::new("r1").does("context");
    let (one, two) = tokio::join!(users[0].build(plan()), users[1].build(plan()));
    assert_eq!((one.pod(), two.pod()), ("kube0-a", "kube1-a"));
    assert_eq!((first.seen.refs(), second.seen.refs()), (vec!["r1".to_owned()], vec!["r1".to_owned()]));
}

#[tokio::test]
async fn a_second_build_of_one_ref_is_refused_and_the_first_goes_on() {
    let mut rows = Rows::default();
    for (name, one_connection, direct) in [
        ("on one connection", true, false),
        ("on two connections", false, false),
        ("on one connection, with frontends", true, true),
        ("on two connections, with frontends", false, true),
    ] {
        rows.row(name, async move {
            let front = Front::new();
            let pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
            let user = front.user().await;
            let other = if one_connection { user.clone() } else { front.user().await };
            let plan = Plan { direct, ..Plan::new("r1").does("sleep:700") };
            let first = user.begin(plan.clone());
            let second = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                // On one connection its other calls would be the first one's.
                let order = if one_connection { vec![Solve] } else { vec![Solve, Status, Bridge] };
                other.build(Plan { order, ..plan.in_session("other") }).await
            };
            let (first, second) = tokio::join!(first.finish(), second);
            assert_eq!(second.error().message(), "job ID r1 exists");
            first.well();
            let ran: usize = pods.iter().filter(|pod| !pod.seen.refs().is_empty()).count();
            assert_eq!(ran, 1, "the Ref is known to one pod, which refuses it");
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn builds_of_several_clients_and_refs_do_not_mix() {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let users = [front.user().await, front.user().await];
    let build = |user: &User, name: &str, mib: usize| {
        let plan = Plan::new(name).does("sleep:100 context").offers(|offer| offer.with_context(mib << 20));
        let user = user.clone();
        async move { (user.build(plan).await, mib) }
    };
    let builds =
        [build(&users[0], "r1", 1), build(&users[0], "r2", 2), build(&users[1], "r3", 3), build(&users[1], "r4", 4)];
    for (built, mib) in futures::future::join_all(builds).await {
        assert_eq!(built.well()["bytes"], (mib << 20).to_string());
        assert_eq!(built.watched.vertices().len(), 2, "{built:#?}");
    }
    let refs: Vec<String> = pods.iter().flat_map(|pod| pod.seen.refs()).collect();
    assert_eq!(refs.len(), 4, "{refs:?}");
}
