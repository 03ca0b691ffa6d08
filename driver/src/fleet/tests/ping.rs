//! What pods' gateways can do is asked once for each version of BuildKit.

use std::time::Duration;

use super::pods::FakePods;
use super::{LONG, ready};
use crate::backend::PodPhase::Running;
use crate::fleet::{PingAnswer, Remembered};

fn remembered(version: &str) -> Remembered {
    let ping = PingAnswer { answer: "before".into(), version: version.to_owned() };
    Remembered { ping: Some(ping), ..Remembered::default() }
}

#[tokio::test(start_paused = true)]
async fn several_pods_that_become_ready_are_asked_one_ping() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    for name in ["kube0-a", "kube0-b", "kube0-c"] {
        pods.set(name, Running);
    }
    let answer = fleet.ping_answer(LONG).await;
    assert_eq!(answer.as_deref(), Some(&b"\0\0\0\0\x04pong"[..]));
    ready(&fleet, 3).await;
    tokio::time::sleep(LONG).await;
    assert_eq!((pods.count("Ping"), pods.count("Solve"), pods.count("Return")), (1, 1, 1));
    assert_eq!(pods.open_builds(), 0);
    let kept = fleet.watch().borrow().remembered.ping.clone().unwrap();
    assert_eq!(kept.version, "v0.33.1");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_answered_at_once_and_not_asked_again() {
    let pods = FakePods::new();
    let fleet = pods.fleet(remembered("v0.33.1"));
    assert_eq!(fleet.ping_answer(Duration::ZERO).await.as_deref(), Some(&b"before"[..]));
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(pods.count("Ping"), 0);
}

#[tokio::test(start_paused = true)]
async fn another_version_of_buildkit_is_asked_anew() {
    for before in ["v0.32.0", ""] {
        let pods = FakePods::new();
        let fleet = pods.fleet(remembered(before));
        pods.set("kube0-a", Running);
        pods.called("Return", 1).await;
        let learned =
            fleet.watch().wait_for(|snapshot| snapshot.remembered != remembered(before)).await.unwrap().clone();
        let ping = PingAnswer { answer: (&b"\0\0\0\0\x04pong"[..]).into(), version: "v0.33.1".to_owned() };
        assert_eq!(learned.remembered.ping, Some(ping));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_refuses_to_say_it_is_ready_all_the_same_and_the_next_one_is_asked() {
    let pods = FakePods::new();
    pods.tell(|told| told.pong = None);
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    assert_eq!(fleet.ping_answer(LONG).await, None);
    assert_eq!(pods.open_builds(), 0, "the build that Ping belonged to goes on");
    pods.tell(|told| told.pong = Some(b"now"));
    pods.set("kube0-b", Running);
    assert!(fleet.ping_answer(LONG).await.is_some());
    assert_eq!(pods.count("Ping"), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_pod_the_wait_ends_with_the_patience() {
    let fleet = FakePods::new().fleet(Remembered::default());
    let begun = tokio::time::Instant::now();
    assert_eq!(fleet.ping_answer(Duration::from_secs(3)).await, None);
    assert_eq!(begun.elapsed().as_secs(), 3);
}
