//! The proxy between a client and pods, all in this process: what it answers, what it passes, where it places.

use std::sync::atomic::Ordering;
use std::time::Duration;

use buildfleet_proto::buildkit::*;
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use crate::support::front::{Front, solve};
use crate::support::user::offer::Offer;
use crate::support::user::session::UserSession;

#[tokio::test]
async fn what_asks_about_a_node_starts_no_pod() {
    let front = Front::new();
    let mut client = front.client().await;
    let workers = client.list_workers(ListWorkersRequest::default()).await.unwrap().into_inner();
    assert_eq!(workers.record[0].platforms[0].architecture, "arm64");
    client.info(InfoRequest::default()).await.unwrap();
    let usage = client.disk_usage(DiskUsageRequest::default()).await.unwrap().into_inner();
    assert_eq!(usage.record.len(), 0);
    let asked = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
    let mut history = client.listen_build_history(asked).await.unwrap().into_inner();
    assert!(history.next().await.is_none());
    assert_eq!(front.pods.orders(), [0_u32; 0]);
}

#[tokio::test]
async fn platforms_that_went_to_another_node_are_not_expected_any_more() {
    let front = Front::new();
    front.fleet.expect_platforms(&["linux/riscv64".parse().unwrap()]);
    let workers = front.client().await.list_workers(ListWorkersRequest::default()).await.unwrap().into_inner();
    assert_eq!(workers.record[0].platforms[0].architecture, "riscv64");
}

#[tokio::test]
async fn a_solve_starts_the_pods_and_is_answered_by_one() {
    let front = Front::new();
    let mut client = front.client().await;
    let solving = tokio::spawn(async move { client.solve(solve("r1", "")).await });
    front.pods.first_order().await;
    let _buildkitd = front.pod("kube0-a");
    let answer = solving.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.exporter_response["pod"], "kube0-a");
    assert_eq!(front.pods.orders(), [1]);
}

#[tokio::test]
async fn two_first_builds_give_one_order() {
    let front = Front::new();
    let solving: Vec<_> = [("r1", front.client().await), ("r2", front.client().await)]
        .into_iter()
        .map(|(name, mut client)| tokio::spawn(async move { client.solve(solve(name, "")).await }))
        .collect();
    front.pods.first_order().await;
    let _buildkitd = front.pod("kube0-a");
    for solving in solving {
        solving.await.unwrap().unwrap();
    }
    assert_eq!(front.pods.orders(), [1]);
}

#[tokio::test]
async fn a_session_is_greeted_before_there_is_a_pod() {
    let front = Front::new();
    let user = front.user().await;
    let mut session = UserSession::open(&user, Offer::new("s1"), Duration::ZERO);
    tokio::time::timeout(Duration::from_secs(2), session.greeted()).await.expect("no greeting");
    assert_eq!(front.pods.orders(), [0_u32; 0], "a session alone is no build");
    let mut control = user.control();
    let solving = tokio::spawn(async move { control.solve(solve("r1", "context")).await });
    front.pods.first_order().await;
    let _buildkitd = front.pod("kube0-a");
    let answer = solving.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.exporter_response["bytes"], (1 << 20).to_string());
}

#[tokio::test]
async fn a_context_of_many_windows_passes_through_the_session() {
    let front = Front::new();
    let _buildkitd = front.pod("kube0-a");
    let user = front.user().await;
    let _session = UserSession::open(&user, Offer::new("s1").with_context(64 << 20), Duration::ZERO);
    let answer = user.control().solve(solve("r1", "context")).await.unwrap().into_inner();
    assert_eq!(answer.exporter_response["bytes"], (64 << 20).to_string());
}

#[tokio::test]
async fn a_failed_build_keeps_its_long_details() {
    let front = Front::new();
    let _buildkitd = front.pod("kube0-a");
    let status = front.client().await.solve(solve("r1", "fail:102400")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "exit code: 1 „ä“"));
    assert_eq!(status.details(), vec![7_u8; 100 << 10]);
}

#[tokio::test]
async fn the_calls_of_a_connection_stay_together_and_a_project_stays_on_its_pod() {
    let front = Front::new();
    let _pods: Vec<_> = ["kube0-a", "kube0-b", "kube0-c"].map(|name| front.pod(name)).into();
    let ready = front.fleet.watch().wait_for(|snapshot| snapshot.ready == 3).await.map(drop);
    ready.unwrap();
    let mut pods = Vec::new();
    for name in ["r1", "r2", "r3"] {
        let mut client = front.client().await;
        pods.push(client.solve(solve(name, "log:1")).await.unwrap().into_inner().exporter_response["pod"].clone());
        let status = StatusRequest { r#ref: name.into() };
        let event = client.status(status).await.unwrap().into_inner().next().await.unwrap().unwrap();
        assert!(event.vertexes[0].name.contains(pods.last().unwrap()), "{event:?}");
    }
    // Every client here has the same working directory: this process's.
    assert!(pods.iter().all(|pod| *pod == pods[0]), "{pods:?}");
}

#[tokio::test]
async fn many_connections_share_two_to_the_pod() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    for name in ["r1", "r2", "r3", "r4", "r5"] {
        front.client().await.solve(solve(name, "")).await.unwrap();
    }
    assert_eq!(buildkitd.seen.connections.load(Ordering::SeqCst), 2, "one for calls and one for sessions");
}

#[tokio::test]
async fn a_filtered_list_of_workers_is_the_pods_business() {
    let front = Front::new();
    let _buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    client.solve(solve("r1", "")).await.unwrap();
    let filtered = Request::new(ListWorkersRequest { filter: vec!["id==x".to_owned()] });
    let workers = client.list_workers(filtered).await.unwrap().into_inner();
    assert_eq!(workers.record[0].id, "kube0-a");
}
