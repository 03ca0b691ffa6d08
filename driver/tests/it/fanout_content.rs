//! The content service: a digest is read from the pod that has it, whoever asks.

use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::BuildHistoryRequest;
use buildfleet_proto::content::content_client::ContentClient;
use buildfleet_proto::content::{InfoRequest, ListContentRequest, ReadContentRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::front::{Front, eventually};
use crate::support::records::log_digest;
use crate::support::rows::Rows;

async fn contents(front: &Front) -> ContentClient<Channel> {
    ContentClient::new(front.user().await.channel()).max_decoding_message_size(16 << 20)
}

async fn read(front: &Front, digest: &str, offset: i64, size: i64) -> Result<Vec<u8>, Status> {
    let asked = ReadContentRequest { digest: digest.to_owned(), offset, size };
    let mut pieces = contents(front).await.read(asked).await?.into_inner();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.message().await? {
        whole.extend_from_slice(&piece.data);
    }
    Ok(whole)
}

async fn info(front: &Front, digest: &str) -> Result<i64, Status> {
    let asked = InfoRequest { digest: digest.to_owned() };
    contents(front).await.info(asked).await.map(|info| info.into_inner().info.unwrap().size)
}

async fn lists_history(front: &Front) {
    let asked = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
    let mut told = front.client().await.listen_build_history(asked).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}
}

#[tokio::test]
async fn what_a_record_names_is_read_from_the_record_s_pod() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    a.records.built("r1", 20);
    b.records.built("r2", 10);
    lists_history(&front).await;
    let (first, second) = (log_digest("r1"), log_digest("r2"));
    assert_eq!(read(&front, &second, 0, 0).await.unwrap(), b"log of r2");
    assert_eq!(info(&front, &first).await.unwrap(), 9);
    assert_eq!(a.records.calls(), ["Listen".to_owned(), format!("Info {first}")]);
    assert_eq!(b.records.calls(), ["Listen".to_owned(), format!("Read {second}")]);
}

#[tokio::test]
async fn what_nobody_told_of_is_looked_for_once() {
    let front = Front::new();
    let [a, b, c] = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
    b.records.has_content("sha256:x", b"the content");
    assert_eq!(read(&front, "sha256:x", 0, 0).await.unwrap(), b"the content");
    assert_eq!(read(&front, "sha256:x", 4, 3).await.unwrap(), b"con");
    assert_eq!(info(&front, "sha256:x").await.unwrap(), 11);
    for pod in [&a, &c] {
        assert_eq!(pod.records.calls(), ["Info sha256:x"], "{}", pod.name);
    }
    assert_eq!(b.records.calls(), ["Info sha256:x", "Read sha256:x", "Read sha256:x", "Info sha256:x"]);
}

#[tokio::test]
async fn a_large_content_comes_in_many_pieces_and_as_slowly_as_it_is_read() {
    let front = Front::new();
    let [_a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let whole: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    b.records.has_content("sha256:x", &whole);
    assert_eq!(read(&front, "sha256:x", 0, 0).await.unwrap(), whole);

    b.records.has_content("sha256:y", &vec![1; 64 << 20]);
    let asked = ReadContentRequest { digest: "sha256:y".to_owned(), ..ReadContentRequest::default() };
    let mut pieces = contents(&front).await.read(asked).await.unwrap().into_inner();
    pieces.message().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(b.records.is_open(), "64 MiB went somewhere though nobody reads");
    drop(pieces);
    eventually("the end of the reading", || !b.records.is_open()).await;
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_words_of_the_pods() {
    let mut rows = Rows::default();
    rows.row("no pod has it", async {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
        for status in [read(&front, "sha256:x", 0, 0).await.unwrap_err(), info(&front, "sha256:x").await.unwrap_err()] {
            assert_eq!((status.code(), status.message()), (Code::NotFound, "content sha256:x: not found"));
        }
    });
    rows.row("its holder has dropped it, another pod has it", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.has_content("sha256:x", b"x");
        info(&front, "sha256:x").await.unwrap();
        a.records.drops_content("sha256:x");
        b.records.has_content("sha256:x", b"x");
        assert_eq!(read(&front, "sha256:x", 0, 0).await.unwrap(), b"x");
        assert_eq!(read(&front, "sha256:x", 0, 0).await.unwrap(), b"x");
        assert_eq!(b.records.calls().iter().filter(|call| call.starts_with("Read")).count(), 2);
    });
    rows.row("its holder has ended, another pod has it", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.has_content("sha256:x", b"x");
        info(&front, "sha256:x").await.unwrap();
        b.records.has_content("sha256:x", b"x");
        a.kill().await;
        front.pods.end("kube0-a", "deleted");
        assert_eq!(read(&front, "sha256:x", 0, 0).await.unwrap(), b"x");
    });
    rows.row("a part behind its end is asked for", async {
        let front = Front::new();
        let [a, _b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.has_content("sha256:x", b"x");
        assert_eq!(read(&front, "sha256:x", 7, 0).await.unwrap_err().code(), Code::OutOfRange);
    });
    rows.row("it is empty", async {
        let front = Front::new();
        let [a, _b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        a.records.has_content("sha256:empty", b"");
        for _ in 0..2 {
            assert_eq!(read(&front, "sha256:empty", 0, 0).await.unwrap(), b"");
        }
    });
    rows.row("the pod that may have it is silent", async {
        let front = Front::new();
        let [_a, mut b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        b.freeze();
        let begun = Instant::now();
        let status = read(&front, "sha256:x", 0, 0).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("pod kube0-b did not answer within 5 s"), "{}", status.message());
    });
    rows.row("a silent pod does not keep what another one has", async {
        let front = Front::new();
        let [mut a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        b.records.has_content("sha256:x", b"x");
        a.freeze();
        let begun = Instant::now();
        assert_eq!(read(&front, "sha256:x", 0, 0).await.unwrap(), b"x");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    });
    rows.row("nothing runs", async {
        let front = Front::new();
        let status = read(&front, "sha256:x", 0, 0).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().starts_with("content sha256:x: not found"), "{}", status.message());
        assert_eq!(front.pods.orders(), [0_u32; 0]);
    });
    rows.pass().await;
}

#[tokio::test]
async fn the_contents_of_all_pods_are_one_list() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    a.records.has_content("sha256:a", b"1");
    b.records.has_content("sha256:b", b"12");
    let mut told = contents(&front).await.list(ListContentRequest::default()).await.unwrap().into_inner();
    let mut digests = Vec::new();
    while let Some(some) = told.message().await.unwrap() {
        digests.extend(some.info.into_iter().map(|info| info.digest));
    }
    digests.sort();
    assert_eq!(digests, ["sha256:a", "sha256:b"]);
}
