//! Ends of builds, pods, sessions, clients and of the daemon itself, as the proxy tells the others of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use buildfleet::backend::{PodPhase, Removal, StoryLine};
use buildfleet_proto::buildkit::*;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::support::front::{Front, eventually, solve};
use crate::support::user::offer::Offer;
use crate::support::user::session::UserSession;

#[tokio::test]
async fn a_client_of_a_removed_node_does_not_bring_it_back() {
    let front = Front::new();
    let mut client = front.client().await;
    front.fleet.delete(Removal::default()).await.unwrap();
    let status = client.solve(solve("r1", "")).await.unwrap_err();
    assert_eq!(status.message(), "node kube0 has been removed");
    assert_eq!(front.pods.orders(), [0_u32; 0]);
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_a_drain() {
    let front = Front::new();
    let _silent = tokio::net::UnixStream::connect(&front.socket).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    front.shutdown.drain();
    assert!(front.shutdown.finished(Duration::from_secs(2)).await, "the drain had to be forced");
}

#[tokio::test]
async fn a_pod_that_ends_in_mid_build_is_named_with_the_reason_within_three_seconds() {
    let front = Front::without_retries();
    let buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    let seen = Arc::clone(&buildkitd.seen);
    let solving = tokio::spawn(async move { client.solve(solve("r1", "hang")).await });
    eventually("the build", || seen.solving.load(Ordering::SeqCst) == 1).await;
    let begun = Instant::now();
    buildkitd.kill().await;
    front.pods.end("kube0-a", "OOMKilled");
    let status = solving.await.unwrap().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("pod kube0-a has ended: OOMKilled"), "{}", status.message());
}

#[tokio::test]
async fn a_pod_that_is_gone_ends_its_builds_although_its_connection_says_nothing() {
    let front = Front::without_retries();
    let mut buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    let solving = tokio::spawn(async move { client.solve(solve("r1", "hang")).await });
    eventually("the build", || buildkitd.seen.solving.load(Ordering::SeqCst) == 1).await;
    buildkitd.freeze();
    let begun = Instant::now();
    front.pods.end("kube0-a", "node lost");
    let status = solving.await.unwrap().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(status.message().contains("pod kube0-a has ended: node lost"), "{status:?}");
}

#[tokio::test]
async fn a_terminating_pod_gets_nothing_new() {
    let front = Front::new();
    let _going = front.pod("kube0-a");
    let _staying = front.pod("kube0-b");
    front.fleet.watch().wait_for(|snapshot| snapshot.ready == 2).await.map(drop).unwrap();
    front.pods.set("kube0-a", PodPhase::Terminating, &[]);
    for name in ["r1", "r2", "r3"] {
        let answer = front.client().await.solve(solve(name, "")).await.unwrap().into_inner();
        assert_eq!(answer.exporter_response["pod"], "kube0-b");
    }
}

#[tokio::test]
async fn a_cancelled_build_is_cancelled_on_the_pod_at_once() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    let solving = tokio::spawn(async move { client.solve(solve("r1", "hang")).await });
    eventually("the build", || buildkitd.seen.solving.load(Ordering::SeqCst) == 1).await;
    solving.abort();
    eventually("the cancellation", || buildkitd.seen.solving.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_session_ends_on_the_pod_when_the_user_leaves() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let user = front.user().await;
    let session = UserSession::open(&user, Offer::new("s1"), Duration::ZERO);
    let mut control = user.control();
    let _solving = tokio::spawn(async move { control.solve(solve("r1", "context hang")).await });
    eventually("the session", || buildkitd.seen.open_sessions.load(Ordering::SeqCst) == 1).await;
    drop(session);
    eventually("the end of the session", || buildkitd.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_stop_returns_when_the_pods_are_known_to_go() {
    let front = Front::new();
    let _buildkitd = front.pod("kube0-a");
    front.fleet.watch().wait_for(|snapshot| snapshot.ready == 1).await.map(drop).unwrap();
    let fleet = Arc::clone(&front.fleet);
    let stopping = tokio::spawn(async move { fleet.stop_pods().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished(), "the pod is still there");
    front.pods.set("kube0-a", PodPhase::Terminating, &[]);
    stopping.await.unwrap().unwrap();
    assert_eq!(front.fleet.watch().borrow().ready, 0);
}

#[tokio::test]
async fn a_start_that_takes_too_long_ends_with_the_story() {
    let front = Front::with_timeout(Duration::from_secs(1));
    let story = [StoryLine::trouble("pull failed: registry.example/bk: not found")];
    front.pods.set("kube0-a", PodPhase::Pending, &story);
    let status = front.client().await.solve(solve("r1", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let text = "node kube0 has 0 of 1 pods ready after 1.0 s\nkube0-a: pull failed: registry.example/bk: not found";
    assert_eq!(status.message(), text);
}

#[tokio::test]
async fn a_drain_lets_a_call_end_and_takes_no_new_connection() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    let solving = tokio::spawn(async move { client.solve(solve("r1", "sleep:1000")).await });
    eventually("the build", || buildkitd.seen.solving.load(Ordering::SeqCst) == 1).await;
    front.shutdown.drain();
    assert!(front.shutdown.finished(Duration::from_secs(10)).await, "the drain had to be forced");
    solving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_lets_a_build_under_way_make_new_calls() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let client = front.client().await;
    let mut solver = client.clone();
    let solving = tokio::spawn(async move { solver.solve(solve("r1", "sleep:1000")).await });
    eventually("the build", || buildkitd.seen.solving.load(Ordering::SeqCst) == 1).await;
    front.shutdown.drain();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = StatusRequest { r#ref: "r1".into() };
    let event = client.clone().status(status).await.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(event.vertexes[0].name, "[kube0-a 1] sleep:1000");
    solving.await.unwrap().unwrap();
    assert!(front.shutdown.finished(Duration::from_secs(10)).await, "the drain had to be forced");
}
