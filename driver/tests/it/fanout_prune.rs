//! Prune: every pod of a node does its part, and what one of them did not do is told as an error.

use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::*;
use tonic::{Code, Request, Status};

use crate::fanout::{SILENCE, usage};
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;

/// The ids that were told, and the end.
async fn prune(front: &Front) -> (Vec<String>, Result<(), Status>) {
    let mut told = Vec::new();
    let mut pruned = front.client().await.prune(Request::new(PruneRequest::default())).await.unwrap().into_inner();
    loop {
        match pruned.message().await {
            Ok(Some(record)) => told.push(record.id),
            Ok(None) => return (told, Ok(())),
            Err(status) => return (told, Err(status)),
        }
    }
}

#[tokio::test]
async fn prune_trims_every_pod_and_ends_when_all_have_ended() {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
    pods[0].records.uses("a1", 1);
    pods[1].records.uses("b1", 1);
    pods[1].records.busy(true);
    let mut pruned = front.client().await.prune(PruneRequest::default()).await.unwrap().into_inner();
    // What one has to tell does not wait for the other.
    assert_eq!(pruned.message().await.unwrap().unwrap().id, "a1");
    assert!(tokio::time::timeout(Duration::from_millis(300), pruned.message()).await.is_err());
    pods[1].records.busy(false);
    assert_eq!(pruned.message().await.unwrap().unwrap().id, "b1");
    assert_eq!(pruned.message().await.unwrap(), None);
    assert_eq!(usage(&front).await.unwrap(), (vec![], vec![]));
}

#[tokio::test]
async fn what_one_pod_did_not_prune_is_an_error_once_the_others_are_done() {
    let mut rows = Rows::default();
    rows.row("it refuses at once", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.refuses("Prune", Status::unknown("cache is locked"));
        b.records.uses("b1", 1);
        b.records.busy(true);
        let pruning = async { prune(&front).await };
        let ending = async {
            eventually("the question", || b.records.is_open()).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            b.records.busy(false);
        };
        let ((told, end), ()) = tokio::join!(pruning, ending);
        assert_eq!(told, ["b1"]);
        let status = end.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, "cache is locked"));
        assert_eq!(status.metadata().get("buildfleet-warning").unwrap(), "pod kube0-a refused prune: cache is locked");
    });
    rows.row("it falls silent", async {
        let front = Front::new();
        let [mut a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.freeze();
        b.records.uses("b1", 1);
        let begun = Instant::now();
        let (told, end) = prune(&front).await;
        assert!(SILENCE.contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(told, ["b1"]);
        assert_eq!(end.unwrap_err().message(), "pod kube0-a gave no sign of life for 5 s");
    });
    rows.row("it ends", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.busy(true);
        b.records.uses("b1", 1);
        let pruning = async { prune(&front).await };
        let ending = async {
            eventually("the question", || a.records.is_open()).await;
            a.kill().await;
            front.pods.end("kube0-a", "Evicted");
        };
        let ((told, end), ()) = tokio::join!(pruning, ending);
        assert_eq!(told, ["b1"]);
        let status = end.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("pod kube0-a has ended: Evicted"), "{}", status.message());
    });
    rows.pass().await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_every_pod_down() {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let records = 2_000;
    for pod in &pods {
        for number in 0..records {
            pod.records.uses(&format!("{}-{number}-{}", pod.name, "x".repeat(16 << 10)), 1);
        }
    }
    let mut pruned = front.client().await.prune(PruneRequest::default()).await.unwrap().into_inner();
    pruned.message().await.unwrap().unwrap();
    let handed = || pods.iter().map(|pod| pod.records.pruned.load(std::sync::atomic::Ordering::SeqCst)).sum::<usize>();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // 64 MiB wait at the pods. On the way are at most the windows of both sides of the daemon.
    let held = handed();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(handed(), held, "they go on though nobody reads");
    assert!(held * (16 << 10) < 24 << 20, "{held} of {} were taken", 2 * records);
    let mut rest = 1;
    while pruned.message().await.unwrap().is_some() {
        rest += 1;
    }
    assert_eq!(rest, 2 * records);
}
