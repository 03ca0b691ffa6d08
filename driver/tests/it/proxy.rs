//! The proxy between a client and pods, all in this process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use buildfleet::backend::{PodPhase, StoryLine};
use buildfleet::fleet::{FleetConfig, NodeFleet, Remembered};
use buildfleet::options::LoadBalance;
use buildfleet::shutdown::Shutdown;
use buildfleet_proto::buildkit::control_client::ControlClient;
use buildfleet_proto::buildkit::*;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::pods::FakePods;
use crate::support::user::{UserSession, connect};

/// A node's socket with pods behind it.
struct Front {
    directory: TempDir,
    pods: Arc<FakePods>,
    fleet: Arc<NodeFleet>,
    shutdown: Shutdown,
    socket: PathBuf,
}

impl Front {
    fn new() -> Self {
        Self::with_timeout(Duration::from_secs(20))
    }

    fn with_timeout(timeout: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("front.sock");
        let pods = Arc::new(FakePods::new());
        let shutdown = Shutdown::new();
        let config = FleetConfig {
            node: "kube0".parse().unwrap(),
            replicas: 1,
            loadbalance: LoadBalance::Sticky,
            timeout,
            platforms: vec!["linux/arm64".parse().unwrap()],
            remembered: Remembered { stopped: true, ..Remembered::default() },
        };
        let fleet = NodeFleet::start(config, pods.clone(), shutdown.clone());
        let listener = UnixListener::bind(&socket).unwrap();
        let (accepting, served) = (shutdown.clone(), Arc::clone(&fleet));
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        let serve = buildfleet::proxy::serve(stream, Arc::clone(&served), accepting.clone());
                        accepting.spawn(serve);
                    }
                    () = accepting.draining() => return,
                }
            }
        });
        Self { directory, pods, fleet, shutdown, socket }
    }

    fn pod(&self, name: &str) -> FakeBuildkitd {
        let buildkitd = FakeBuildkitd::start(name, self.directory.path());
        self.pods.run(name, &buildkitd.socket);
        buildkitd
    }

    async fn client(&self) -> ControlClient<Channel> {
        connect(&self.socket).await
    }
}

fn solve(frontend: &str) -> SolveRequest {
    SolveRequest { r#ref: "r1".into(), session: "s1".into(), frontend: frontend.into(), ..SolveRequest::default() }
}

fn context(mib: usize) -> SolveRequest {
    SolveRequest { frontend_attrs: HashMap::from([("mib".to_owned(), mib.to_string())]), ..solve("context") }
}

/// Waits for what other tasks bring about.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_asks_about_a_node_starts_no_pod() {
    let front = Front::new();
    let mut client = front.client().await;
    let workers = client.list_workers(ListWorkersRequest::default()).await.unwrap().into_inner();
    assert_eq!(workers.record[0].platforms[0].architecture, "arm64");
    client.info(InfoRequest::default()).await.unwrap();
    let usage = client.disk_usage(DiskUsageRequest::default()).await.unwrap().into_inner();
    assert_eq!(usage.record.len(), 0);
    let mut history = client.listen_build_history(BuildHistoryRequest::default()).await.unwrap().into_inner();
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
    let solving = tokio::spawn(async move { client.solve(solve("")).await });
    front.pods.first_order().await;
    let _buildkitd = front.pod("kube0-a");
    let answer = solving.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.exporter_response["pod"], "kube0-a");
    assert_eq!(front.pods.orders(), [1]);
}

#[tokio::test]
async fn a_client_of_a_removed_node_does_not_bring_it_back() {
    let front = Front::new();
    let mut client = front.client().await;
    front.fleet.delete().await.unwrap();
    let status = client.solve(solve("")).await.unwrap_err();
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
async fn two_first_builds_give_one_order() {
    let front = Front::new();
    let solving: Vec<_> = [front.client().await, front.client().await]
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.solve(solve("")).await }))
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
    let client = front.client().await;
    let mut session = UserSession::open(client.clone(), "s1");
    tokio::time::timeout(Duration::from_secs(2), session.greeted()).await.expect("no greeting");
    front.pods.first_order().await;
    let _buildkitd = front.pod("kube0-a");
    let answer = client.clone().solve(context(1)).await.unwrap().into_inner();
    assert_eq!(answer.exporter_response["bytes"], (1 << 20).to_string());
}

#[tokio::test]
async fn a_context_of_many_windows_passes_through_the_session() {
    let front = Front::new();
    let _buildkitd = front.pod("kube0-a");
    let client = front.client().await;
    let _session = UserSession::open(client.clone(), "s1");
    let answer = client.clone().solve(context(64)).await.unwrap().into_inner();
    assert_eq!(answer.exporter_response["bytes"], (64 << 20).to_string());
}

#[tokio::test]
async fn repeated_metadata_of_a_session_stays_repeated() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let client = front.client().await;
    let _session = UserSession::open(client.clone(), "s1");
    client.clone().solve(context(0)).await.unwrap();
    let metadata = buildkitd.seen.metadata("s1");
    let methods: Vec<_> = metadata.get_all("x-docker-expose-session-grpc-method").iter().collect();
    assert_eq!(methods, ["/moby.filesync.v1.FileSync/DiffCopy", "/grpc.health.v1.Health/Check"]);
}

#[tokio::test]
async fn a_failed_build_keeps_its_long_details() {
    let front = Front::new();
    let _buildkitd = front.pod("kube0-a");
    let status = front.client().await.solve(solve("fail")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "exit code: 1 „ä“"));
    assert_eq!(status.details(), vec![7_u8; 100 << 10]);
}

#[tokio::test]
async fn a_pod_that_ends_in_mid_build_is_named_with_the_reason_within_three_seconds() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    let seen = Arc::clone(&buildkitd.seen);
    let solving = tokio::spawn(async move { client.solve(solve("hang")).await });
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
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let client = front.client().await;
    let session = UserSession::open(client.clone(), "s1");
    let solving = tokio::spawn({
        let mut client = client.clone();
        async move { client.solve(solve("hang")).await }
    });
    eventually("the build", || buildkitd.seen.solving.load(Ordering::SeqCst) == 1).await;
    eventually("the session", || buildkitd.seen.open_sessions.load(Ordering::SeqCst) == 1).await;
    let begun = Instant::now();
    front.pods.end("kube0-a", "node lost");
    let status = solving.await.unwrap().unwrap_err();
    let of_session = session.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    for status in [status, of_session] {
        assert!(status.message().contains("pod kube0-a has ended: node lost"), "{status:?}");
    }
}

#[tokio::test]
async fn after_a_pods_end_the_same_connection_builds_on_another() {
    let front = Front::new();
    let first = front.pod("kube0-a");
    let mut client = front.client().await;
    client.solve(solve("")).await.unwrap();
    first.kill().await;
    front.pods.end("kube0-a", "Evicted");
    let _second = front.pod("kube0-b");
    let answer = client.solve(solve("")).await.unwrap().into_inner();
    assert_eq!(answer.exporter_response["pod"], "kube0-b");
}

#[tokio::test]
async fn the_calls_of_a_connection_stay_together_and_a_project_stays_on_its_pod() {
    let front = Front::new();
    let _pods: Vec<_> = ["kube0-a", "kube0-b", "kube0-c"].map(|name| front.pod(name)).into();
    let ready = front.fleet.watch().wait_for(|snapshot| snapshot.ready == 3).await.map(drop);
    ready.unwrap();
    let mut pods = Vec::new();
    for _ in 0..3 {
        let mut client = front.client().await;
        pods.push(client.solve(solve("")).await.unwrap().into_inner().exporter_response["pod"].clone());
        let status = StatusRequest { r#ref: "r1".into() };
        let event = client.status(status).await.unwrap().into_inner().next().await.unwrap().unwrap();
        pods.push(event.vertexes[0].name.clone());
    }
    // Every client here has the same working directory: this process's.
    assert!(pods.iter().all(|pod| *pod == pods[0]), "{pods:?}");
}

#[tokio::test]
async fn a_terminating_pod_gets_nothing_new() {
    let front = Front::new();
    let _going = front.pod("kube0-a");
    let _staying = front.pod("kube0-b");
    front.fleet.watch().wait_for(|snapshot| snapshot.ready == 2).await.map(drop).unwrap();
    front.pods.set("kube0-a", PodPhase::Terminating, &[]);
    for _ in 0..3 {
        let answer = front.client().await.solve(solve("")).await.unwrap().into_inner();
        assert_eq!(answer.exporter_response["pod"], "kube0-b");
    }
}

#[tokio::test]
async fn a_cancelled_build_is_cancelled_on_the_pod_at_once() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    let solving = tokio::spawn(async move { client.solve(solve("hang")).await });
    eventually("the build", || buildkitd.seen.solving.load(Ordering::SeqCst) == 1).await;
    solving.abort();
    eventually("the cancellation", || buildkitd.seen.solving.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_session_ends_on_the_pod_when_the_user_leaves() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let client = front.client().await;
    let session = UserSession::open(client.clone(), "s1");
    client.clone().solve(context(0)).await.unwrap();
    assert_eq!(buildkitd.seen.open_sessions.load(Ordering::SeqCst), 1);
    drop((session, client));
    eventually("the end of the session", || buildkitd.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_start_that_takes_too_long_ends_with_the_story() {
    let front = Front::with_timeout(Duration::from_secs(1));
    let story = [StoryLine::trouble("pull failed: registry.example/bk: not found")];
    front.pods.set("kube0-a", PodPhase::Pending, &story);
    let status = front.client().await.solve(solve("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let text = "node kube0 has 0 of 1 pods ready after 1.0 s\nkube0-a: pull failed: registry.example/bk: not found";
    assert_eq!(status.message(), text);
}

#[tokio::test]
async fn a_ping_is_answered_while_the_pod_takes_longer_than_the_client_waits() {
    let front = Front::new();
    let client = front.client().await;
    drop(client);
    // The bridge is called by hand: its messages are of no interest here.
    let stream = tokio::net::UnixStream::connect(&front.socket).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = http::Request::post("http://localhost/moby.buildkit.v1.frontend.LLBBridge/Ping")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "4500m")
        .body(())
        .unwrap();
    let begun = Instant::now();
    let (response, mut body) = requests.send_request(request, false).unwrap();
    body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
    let mut answer = response.await.unwrap().into_body();
    let mut length = 0;
    while let Some(chunk) = answer.data().await {
        length += chunk.unwrap().len();
    }
    let trailers = answer.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(length > 1000, "{length} bytes name no capabilities");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    driving.abort();
}

#[tokio::test]
async fn a_drain_lets_a_call_end_and_takes_no_new_connection() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    let solving = tokio::spawn(async move { client.solve(solve("slow")).await });
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
    let solving = tokio::spawn(async move { solver.solve(solve("slow")).await });
    eventually("the build", || buildkitd.seen.solving.load(Ordering::SeqCst) == 1).await;
    front.shutdown.drain();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = StatusRequest { r#ref: "r1".into() };
    let event = client.clone().status(status).await.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(event.vertexes[0].digest, "r1");
    solving.await.unwrap().unwrap();
    assert!(front.shutdown.finished(Duration::from_secs(10)).await, "the drain had to be forced");
}

#[tokio::test]
async fn many_connections_share_one_to_the_pod() {
    let front = Front::new();
    let buildkitd = front.pod("kube0-a");
    for _ in 0..5 {
        front.client().await.solve(solve("")).await.unwrap();
    }
    assert_eq!(buildkitd.seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_filtered_list_of_workers_is_the_pods_business() {
    let front = Front::new();
    let _buildkitd = front.pod("kube0-a");
    let mut client = front.client().await;
    client.solve(solve("")).await.unwrap();
    let filtered = Request::new(ListWorkersRequest { filter: vec!["id==x".to_owned()] });
    let workers = client.list_workers(filtered).await.unwrap().into_inner();
    assert_eq!(workers.record[0].id, "kube0-a");
}
