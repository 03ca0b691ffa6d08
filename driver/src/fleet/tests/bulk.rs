//! Streams that carry much are kept apart from calls, on as many connections as they need.

use std::time::Duration;

use tokio::time::sleep;

use super::pods::FakePods;
use super::stream::stream;
use super::{lease, ready};
use crate::backend::PodPhase::Running;
use crate::fleet::Remembered;

/// Less than what is waited for before another connection is dialled.
const MOMENT: Duration = Duration::from_millis(100);
const WHILE: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn a_stream_that_carries_much_does_not_share_the_connection_of_calls() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    // At once after the pod has become ready.
    let lease = lease(&fleet).await;
    let _stream = stream(&lease).await;
    assert_eq!((pods.called_on("ListWorkers"), pods.called_on("Session")), (vec![1], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn a_build_on_a_warm_pod_dials_nothing() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    for pause in [MOMENT, WHILE, Duration::from_secs(3600)] {
        sleep(pause).await;
        let lease = lease(&fleet).await;
        // buildx's own probe has a session too, which may end while the next one begins.
        let probe = stream(&lease).await;
        let stream = stream(&lease).await;
        sleep(MOMENT).await;
        drop(probe);
        sleep(WHILE).await;
        drop((stream, lease));
    }
    assert_eq!(pods.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn streams_join_the_least_used_connection_at_once_while_others_are_dialled_for_the_next() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    let lease = lease(&fleet).await;
    let mut streams = vec![stream(&lease).await, stream(&lease).await];
    assert_eq!(pods.called_on("Session"), [2, 2], "a stream waits for no dial");
    for _ in 0..8 {
        sleep(WHILE).await;
        streams.push(stream(&lease).await);
    }
    assert_eq!(pods.connections("kube0-a"), [1, 2, 3, 4, 5]);
    let mut used = [0; 6];
    pods.called_on("Session").into_iter().for_each(|number| used[number as usize] += 1);
    assert_eq!(used, [0, 0, 3, 3, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn connections_that_nobody_uses_are_closed_but_for_one() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    let lease = lease(&fleet).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(stream(&lease).await);
        sleep(WHILE).await;
    }
    let kept = streams.remove(2);
    drop(streams);
    sleep(Duration::from_secs(25)).await;
    assert_eq!(pods.connections("kube0-a").len(), 5, "they wait for the next build");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(pods.connections("kube0-a"), [1, 2, 3]);
    drop(kept);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(pods.connections("kube0-a"), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn all_connections_to_a_pod_end_with_it() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    let lease = lease(&fleet).await;
    let mut streams = vec![stream(&lease).await];
    sleep(WHILE).await;
    streams.push(stream(&lease).await);
    sleep(WHILE).await;
    assert!(pods.connections("kube0-a").len() > 2);
    pods.end("kube0-a");
    for mut stream in streams {
        assert!(stream.from.data().await.unwrap().is_err());
    }
    sleep(MOMENT).await;
    assert_eq!(pods.connections("kube0-a"), [0_u32; 0]);
    assert!(lease.bulk().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_takes_only_its_streams_along_and_is_replaced() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    let lease = lease(&fleet).await;
    let mut broken = stream(&lease).await;
    pods.break_connection(2);
    assert!(broken.from.data().await.unwrap().is_err());
    assert!(lease.is_usable(), "calls go on");
    sleep(WHILE).await;
    let _stream = stream(&lease).await;
    assert_eq!(pods.called_on("Session"), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn where_no_other_connection_can_be_made_the_shared_one_carries_all() {
    let pods = FakePods::new();
    pods.tell(|told| told.most = 1);
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    let lease = lease(&fleet).await;
    let _first = stream(&lease).await;
    assert_eq!(pods.called_on("Session"), [1]);
    sleep(Duration::from_secs(3600)).await;
    let dials = pods.dials();
    assert!(dials <= 3, "{dials} dials for one stream");
    // Tried again when it is needed again.
    pods.tell(|told| told.most = usize::MAX);
    let _second = stream(&lease).await;
    sleep(WHILE).await;
    let _third = stream(&lease).await;
    assert_eq!(pods.called_on("Session"), [1, 1, dials + 1]);
}
