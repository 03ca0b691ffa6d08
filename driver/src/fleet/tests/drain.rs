//! Pods that are told to go: what runs there ends in peace, and nothing else keeps them.

use std::time::Duration;

use tokio::time::sleep;

use super::pods::FakePods;
use super::stream::stream;
use super::{lease, ready};
use crate::backend::PodPhase::{Running, Terminating};
use crate::fleet::Remembered;
use crate::placement::Placing;

/// Until other tasks have done what they have to.
const MOMENT: Duration = Duration::from_millis(100);
const WHILE: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn connections_to_a_pod_that_goes_are_closed_at_once_when_nobody_uses_them() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    for name in ["kube0-a", "kube0-b"] {
        pods.set(name, Running);
    }
    ready(&fleet, 2).await;
    sleep(WHILE).await;
    assert_eq!((pods.connections("kube0-a").len(), pods.connections("kube0-b").len()), (2, 2));
    pods.set("kube0-a", Terminating);
    sleep(MOMENT).await;
    assert_eq!((pods.connections("kube0-a").len(), pods.connections("kube0-b").len()), (0, 2));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(pods.connections("kube0-a"), [0_u32; 0], "it is dialled again");
    assert_eq!(fleet.reachable(), ["kube0-b".parse().unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_build_on_a_pod_that_goes_makes_new_calls_until_it_ends() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    let first = lease(&fleet).await;
    let second = lease(&fleet).await;
    pods.set("kube0-b", Running);
    ready(&fleet, 2).await;
    pods.set("kube0-a", Terminating);
    sleep(WHILE).await;
    assert!(!first.is_usable(), "nothing new is begun there");
    for _ in 0..10 {
        assert_eq!(lease(&fleet).await.pod().as_str(), "kube0-b");
    }
    for _ in 0..3 {
        first.requests().await.unwrap();
        drop(stream(&first).await);
        sleep(WHILE).await;
    }
    drop(first);
    sleep(MOMENT).await;
    assert!(!pods.connections("kube0-a").is_empty(), "there is another build");
    drop(second);
    sleep(MOMENT).await;
    assert_eq!(pods.connections("kube0-a"), [0_u32; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_a_pod_that_goes_is_answered_too() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    let build = lease(&fleet).await;
    pods.set("kube0-a", Terminating);
    sleep(MOMENT).await;
    assert_eq!(fleet.reachable(), ["kube0-a".parse().unwrap()]);
    let visit = fleet.visit(&"kube0-a".parse().unwrap()).unwrap();
    drop(build);
    sleep(WHILE).await;
    visit.requests().await.unwrap();
    drop(visit);
    sleep(MOMENT).await;
    assert!(fleet.visit(&"kube0-a".parse().unwrap()).is_none());
    assert_eq!(pods.connections("kube0-a"), [0_u32; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_probe_is_let_end_too() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    let probe = Placing { internal: true, ..Placing::default() };
    let probe = fleet.acquire(&probe, tokio::time::Instant::now()).await.unwrap();
    assert_eq!(fleet.watch().borrow().pods[0].builds, 0);
    pods.set("kube0-a", Terminating);
    sleep(WHILE).await;
    probe.requests().await.unwrap();
    drop(probe);
    sleep(MOMENT).await;
    assert_eq!(pods.connections("kube0-a"), [0_u32; 0]);
}
