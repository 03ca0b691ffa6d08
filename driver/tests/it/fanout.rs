//! Disk usage, and what holds for all calls to all pods: every pod has its part in the answer, or the client can find out
//! which one has not.

use std::time::{Duration, Instant};

use buildfleet::backend::PodPhase;
use buildfleet_proto::buildkit::*;
use bytes::Bytes;
use prost::Message;
use tonic::{Code, Request, Status};

use crate::support::front::{Front, eventually};
use crate::support::handmade::{HandmadePod, Piece};
use crate::support::rows::Rows;
use crate::support::user::{grpc, raw};

/// What silence costs, with what a busy machine adds.
pub(crate) const SILENCE: std::ops::Range<Duration> = Duration::from_millis(4_500)..Duration::from_secs(9);

/// What is answered without a wait for anything.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The ids of an answer, sorted, and its warnings.
pub(crate) async fn usage(front: &Front) -> Result<(Vec<String>, Vec<String>), Status> {
    let answer = front.client().await.disk_usage(DiskUsageRequest::default()).await?;
    let warnings = answer.metadata().get_all("buildfleet-warning").iter();
    let warnings = warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect();
    let mut ids: Vec<String> = answer.into_inner().record.into_iter().map(|record| record.id).collect();
    ids.sort();
    Ok((ids, warnings))
}

/// What `buildfleet inspect` says of a pod.
fn reason(front: &Front, pod: &str) -> Option<String> {
    let snapshot = front.fleet.watch().borrow().clone();
    snapshot.pods.into_iter().find(|seen| seen.name.as_str() == pod).unwrap().reason
}

#[tokio::test]
async fn the_usage_of_all_pods_is_one_list() {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
    pods[0].records.uses("a1", 1);
    pods[0].records.uses("a2", 2);
    // The second has nothing.
    pods[2].records.uses("c1", 3);
    assert_eq!(usage(&front).await.unwrap(), (vec!["a1".into(), "a2".into(), "c1".into()], vec![]));

    let asked = DiskUsageRequest { filter: vec!["id~=c".into(), "x".into()], age_limit: 7 };
    front.client().await.disk_usage(asked).await.unwrap();
    for pod in &pods {
        assert_eq!(pod.records.calls(), ["DiskUsage", "DiskUsage id~=c,x"]);
    }
}

#[tokio::test]
async fn where_nothing_runs_nothing_is_found_and_nothing_is_started() {
    let front = Front::new();
    assert_eq!(usage(&front).await.unwrap(), (vec![], vec![]));
    let mut pruned = front.client().await.prune(PruneRequest::default()).await.unwrap().into_inner();
    assert_eq!(pruned.message().await.unwrap(), None);
    front.pods.set("kube0-a", PodPhase::Pending, &[]);
    assert_eq!(usage(&front).await.unwrap(), (vec![], vec![]));
    assert_eq!(front.pods.orders(), [0_u32; 0]);
}

#[tokio::test]
async fn a_pod_that_does_not_answer_costs_a_moment_and_is_told() {
    let mut rows = Rows::default();
    rows.row("it is silent", async {
        let front = Front::new();
        let [a, mut b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.uses("a1", 1);
        b.records.uses("b1", 1);
        b.freeze();
        let begun = Instant::now();
        let (ids, warnings) = usage(&front).await.unwrap();
        assert!(SILENCE.contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(ids, ["a1"]);
        assert_eq!(warnings, ["pod kube0-b gave no sign of life for 5 s"]);
        assert_eq!(reason(&front, "kube0-b").unwrap(), "pod kube0-b gave no sign of life for 5 s");
        assert_eq!(reason(&front, "kube0-a"), None);
        // Once it answers again, nothing is left to be told.
        b.thaw();
        assert_eq!(usage(&front).await.unwrap(), (vec!["a1".into(), "b1".into()], vec![]));
        assert_eq!(reason(&front, "kube0-b"), None);
    });
    rows.row("its process ends meanwhile", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.uses("a1", 1);
        b.records.busy(true);
        let asking = async { usage(&front).await.unwrap() };
        let ending = async {
            eventually("the question", || b.records.is_open()).await;
            b.kill().await;
            front.pods.end("kube0-b", "OOMKilled");
        };
        let ((ids, warnings), ()) = tokio::join!(asking, ending);
        assert_eq!(ids, ["a1"]);
        assert!(warnings[0].starts_with("pod kube0-b has ended: OOMKilled"), "{warnings:?}");
    });
    rows.row("it was never connected", async {
        let front = Front::new();
        let [a] = front.ready_pods(["kube0-a"]).await;
        a.records.uses("a1", 1);
        front.pods.set("kube0-x", PodPhase::Running, &[]);
        let begun = Instant::now();
        let (ids, warnings) = usage(&front).await.unwrap();
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        assert_eq!(ids, ["a1"]);
        assert!(warnings[0].starts_with("pod kube0-x cannot be reached: "), "{warnings:?}");
    });
    rows.row("it refuses", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.uses("a1", 1);
        b.records.refuses("DiskUsage", Status::internal("disk is „kaputt“"));
        let (ids, warnings) = usage(&front).await.unwrap();
        assert_eq!(ids, ["a1"]);
        assert_eq!(warnings, ["pod kube0-b refused disk usage: disk is %E2%80%9Ekaputt%E2%80%9C"]);
    });
    rows.pass().await;
}

#[tokio::test]
async fn a_pod_that_works_for_long_is_waited_for() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    a.records.uses("a1", 1);
    b.records.uses("b1", 1);
    b.records.busy(true);
    let asking = async { usage(&front).await.unwrap() };
    let working = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        b.records.busy(false);
    };
    let (answer, ()) = tokio::join!(asking, working);
    assert_eq!(answer, (vec!["a1".into(), "b1".into()], vec![]));
}

#[tokio::test]
async fn when_no_pod_answers_the_call_fails_and_says_why() {
    let mut rows = Rows::default();
    rows.row("all are silent", async {
        let front = Front::new();
        let [mut a, mut b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.freeze();
        b.freeze();
        let status = usage(&front).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        for pod in ["kube0-a", "kube0-b"] {
            let told = format!("pod {pod} gave no sign of life for 5 s");
            assert!(status.message().contains(&told), "{}", status.message());
        }
    });
    rows.row("all refuse, in their own words and with all details", async {
        let front = Front::new();
        let pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
        let details = vec![7_u8; 100 << 10];
        for pod in &pods {
            let refusal = Status::with_details(Code::InvalidArgument, "no filter „x“", details.clone().into());
            pod.records.refuses("DiskUsage", refusal);
        }
        let status = usage(&front).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "no filter „x“"));
        assert_eq!(status.details(), details);
    });
    rows.row("one refuses and one is silent", async {
        let front = Front::new();
        let [a, mut b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.refuses("DiskUsage", Status::invalid_argument("no such filter"));
        b.freeze();
        assert_eq!(usage(&front).await.unwrap_err().code(), Code::InvalidArgument);
    });
    rows.row("the only one cannot be reached", async {
        let front = Front::new();
        front.pods.set("kube0-x", PodPhase::Running, &[]);
        let status = usage(&front).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("pod kube0-x cannot be reached"), "{}", status.message());
    });
    rows.pass().await;
}

#[tokio::test]
async fn answers_are_put_together_however_they_are_cut() {
    let record = |id: &str| UsageRecord { id: id.to_owned(), size: 5, ..UsageRecord::default() };
    // A field that nobody here knows stays where it is.
    let mut whole = DiskUsageResponse { record: vec![record("b1"), record("b2")] }.encode_to_vec();
    whole.extend_from_slice(&[0x7a, 3, b'n', b'e', b'w']);
    let whole = grpc::framed(&whole);
    let mut rows = Rows::default();
    for size in [1, 4, 5, 6, 20, whole.len()] {
        let pieces: Vec<_> = whole.chunks(size).map(|piece| Piece::Bytes(Bytes::copy_from_slice(piece))).collect();
        rows.row(format!("pieces of {size}"), async move {
            let front = Front::new();
            let [a] = front.ready_pods(["kube0-a"]).await;
            a.records.uses("a1", 1);
            let answer = [pieces, vec![Piece::End(Status::ok(""))]].concat();
            let b = HandmadePod::start("kube0-b", front.directory(), "DiskUsage", answer);
            front.pods.run("kube0-b", &b.socket);
            front.fleet.watch().wait_for(|snapshot| snapshot.ready == 2).await.map(drop).unwrap();
            let path = "/moby.buildkit.v1.Control/DiskUsage";
            let mut request = Request::new(Bytes::from_static(&[0x7a, 1, b'x']));
            request.metadata_mut().insert("x-told-by-client", "yes".parse().unwrap());
            let channel = front.user().await.channel();
            let answer = raw::unary(&channel, path, request).await.unwrap().into_inner();
            let records = DiskUsageResponse::decode(answer.clone()).unwrap().record;
            assert_eq!(records.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["a1", "b1", "b2"]);
            assert!(answer.ends_with(b"new"), "{answer:?}");
            // What the client said went there untouched.
            let asked = b.asked();
            assert_eq!(asked[0].body, grpc::framed(&[0x7a, 1, b'x']));
            assert_eq!(asked[0].headers["x-told-by-client"], "yes");
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_such() {
    let some = || Piece::Bytes(grpc::framed(&DiskUsageResponse::default().encode_to_vec()));
    let mut rows = Rows::default();
    for (name, answer, told) in [
        ("compressed", vec![Piece::Bytes(Bytes::from_static(&[1, 0, 0, 0, 0]))], "sent a compressed answer"),
        ("cut", vec![Piece::Bytes(Bytes::from_static(&[0, 0, 0])), Piece::Stop], "in the middle of a message"),
        ("without a status", vec![some(), Piece::Stop], "without a status"),
        ("reset", vec![some(), Piece::Reset], "kube0-b"),
    ] {
        rows.row(name, async move {
            let front = Front::new();
            let [_a] = front.ready_pods(["kube0-a"]).await;
            let b = HandmadePod::start("kube0-b", front.directory(), "DiskUsage", answer);
            front.pods.run("kube0-b", &b.socket);
            front.fleet.watch().wait_for(|snapshot| snapshot.ready == 2).await.map(drop).unwrap();
            let (_, warnings) = usage(&front).await.unwrap();
            assert!(warnings[0].contains(told), "{warnings:?}");
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_large_answer_of_many_pods_arrives() {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c", "kube0-d"]).await;
    for pod in &pods {
        for number in 0..20_000 {
            pod.records.uses(&format!("{}-{number}-{}", pod.name, "x".repeat(100)), 1);
        }
    }
    let (ids, warnings) = usage(&front).await.unwrap();
    assert_eq!((ids.len(), warnings.len()), (80_000, 0));
}

#[tokio::test]
async fn a_client_that_leaves_leaves_every_pod() {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
    for pod in &pods {
        pod.records.busy(true);
    }
    for call in ["usage", "prune", "history", "finalize"] {
        let mut client = front.client().await;
        let calling = tokio::spawn(async move {
            match call {
                "usage" => drop(client.disk_usage(DiskUsageRequest::default()).await),
                "prune" => drop(client.prune(PruneRequest::default()).await.unwrap().into_inner().message().await),
                "history" => {
                    let asked = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
                    drop(client.listen_build_history(asked).await.unwrap().into_inner().message().await);
                }
                _ => {
                    let asked = UpdateBuildHistoryRequest { finalize: true, ..UpdateBuildHistoryRequest::default() };
                    drop(client.update_build_history(asked).await);
                }
            }
        });
        for pod in &pods {
            eventually("the question", || pod.records.is_open()).await;
        }
        calling.abort();
        for pod in &pods {
            eventually("its end", || !pod.records.is_open()).await;
        }
    }
}

#[tokio::test]
async fn a_compressed_question_is_refused() {
    let front = Front::new();
    let stream = tokio::net::UnixStream::connect(&front.socket).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = http::Request::post("http://localhost/moby.buildkit.v1.Control/DiskUsage").body(()).unwrap();
    let (response, mut body) = requests.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(&[1, 0, 0, 0, 0]), true).unwrap();
    let verdict = grpc::verdict(response.await.unwrap().headers());
    assert_eq!(verdict.unwrap_err().code(), Code::Unimplemented);
    driving.abort();
}

#[tokio::test]
async fn after_a_daemon_s_start_pods_that_are_about_to_be_connected_are_waited_for() {
    let front = Front::new();
    let a = front.pod("kube0-a");
    a.records.uses("a1", 1);
    // Nobody waited for the pod to be ready.
    assert_eq!(usage(&front).await.unwrap(), (vec!["a1".into()], vec![]));
}
