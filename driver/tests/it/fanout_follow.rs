//! History that is followed: each pod tells its own for as long as the client listens.

use std::time::Duration;

use buildfleet_proto::buildkit::*;
use tonic::{Code, Streaming};

use crate::fanout_history::{all, asked, early, listen, of, update, words};
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;

/// The next thing that is told.
async fn next(told: &mut Streaming<BuildHistoryEvent>) -> String {
    let next = tokio::time::timeout(Duration::from_secs(10), told.message()).await;
    words(&next.expect("nothing is told").unwrap().expect("it is over"))
}

#[tokio::test]
async fn who_follows_hears_of_every_pod_also_of_one_that_comes_later() {
    let front = Front::new();
    let [a] = front.ready_pods(["kube0-a"]).await;
    a.records.built("r1", 5);
    let mut told = listen(&front, BuildHistoryRequest::default()).await;
    assert_eq!(next(&mut told).await, "built r1");
    a.records.begins("r2");
    assert_eq!(next(&mut told).await, "runs r2");
    let b = front.pod("kube0-b");
    eventually("the question", || b.records.is_open()).await;
    b.records.built("r3", 0);
    assert_eq!([next(&mut told).await, next(&mut told).await], ["runs r3", "built r3"]);
    a.records.ends("r2");
    assert_eq!(next(&mut told).await, "built r2");
    // What was told has been learnt.
    assert_eq!(all(&front, of("r3")).await, ["built r3"]);
    assert_eq!((asked(&a, "r3").len(), asked(&b, "r3").len()), (0, 1));
    a.records.forgets("r2");
    assert_eq!(next(&mut told).await, "deleted r2");
    drop(told);
    for pod in [&a, &b] {
        eventually("its end", || !pod.records.is_open()).await;
    }
}

#[tokio::test]
async fn who_follows_a_node_without_pods_starts_none_and_hears_of_the_first() {
    let front = Front::new();
    let active = BuildHistoryRequest { active_only: true, ..BuildHistoryRequest::default() };
    let mut told = listen(&front, active).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), told.message()).await.is_err());
    assert_eq!(front.pods.orders(), [0_u32; 0]);
    let [a] = front.ready_pods(["kube0-a"]).await;
    eventually("the question", || a.records.is_open()).await;
    a.records.begins("r1");
    assert_eq!(next(&mut told).await, "runs r1");
}

#[tokio::test]
async fn who_follows_hears_of_a_pod_again_once_it_is_back() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let mut told = listen(&front, BuildHistoryRequest::default()).await;
    for pod in [&a, &b] {
        eventually("the question", || pod.records.is_open()).await;
    }
    b.kill().await;
    a.records.begins("r1");
    assert_eq!(next(&mut told).await, "runs r1");
    let b = front.pod("kube0-b");
    eventually("the question", || b.records.is_open()).await;
    b.records.begins("r2");
    assert_eq!(next(&mut told).await, "runs r2");
}

#[tokio::test]
async fn who_follows_one_build_hears_of_it_alone_and_of_its_pod_s_end() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    b.records.built("r1", 5);
    all(&front, early()).await;
    let mut told = listen(&front, BuildHistoryRequest { early_exit: false, ..of("r1") }).await;
    assert_eq!(next(&mut told).await, "built r1");
    b.records.begins("r2");
    update(&front, "r1", "pin").await.unwrap();
    assert_eq!(next(&mut told).await, "built r1");
    assert_eq!(asked(&a, "r1").len(), 0);
    b.kill().await;
    front.pods.end("kube0-b", "OOMKilled");
    let status = told.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("pod kube0-b has ended: OOMKilled"), "{}", status.message());
}

#[tokio::test]
async fn who_follows_is_let_go_when_the_daemon_or_the_node_goes() {
    let mut rows = Rows::default();
    rows.row("the daemon", async {
        let front = Front::new();
        let [a] = front.ready_pods(["kube0-a"]).await;
        let mut told = listen(&front, BuildHistoryRequest::default()).await;
        eventually("the question", || a.records.is_open()).await;
        front.shutdown.drain();
        assert_eq!(told.message().await.unwrap_err().message(), "the daemon is shutting down");
        assert!(front.shutdown.finished(Duration::from_secs(5)).await, "the drain waits for a listener");
        eventually("its end", || !a.records.is_open()).await;
    });
    rows.row("the node", async {
        let front = Front::new();
        let [_a] = front.ready_pods(["kube0-a"]).await;
        let mut told = listen(&front, BuildHistoryRequest::default()).await;
        front.fleet.close().await;
        assert_eq!(told.message().await.unwrap_err().message(), "node kube0 has been removed");
    });
    rows.pass().await;
}
