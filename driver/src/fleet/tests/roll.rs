//! Who is there when all pods are to be asked something, and how long that may take to be known.

use std::time::Duration;

use tokio::time::Instant;

use super::pods::FakePods;
use super::{lease, ready};
use crate::backend::PodPhase::{Pending, Running, Terminating};
use crate::fleet::{NodeFleet, PodStatus, Remembered};

fn stopped() -> Remembered {
    Remembered { stopped: true, ..Remembered::default() }
}

/// The fleet has heard of so many pods.
async fn seen(fleet: &NodeFleet, count: usize) {
    fleet.watch().wait_for(|snapshot| snapshot.pods.len() == count).await.map(drop).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_runs_is_waited_for_and_one_that_cannot_be_dialled_is_told() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    seen(&fleet, 1).await;
    let roll = fleet.roll_call().await;
    assert_eq!(roll.reachable, ["kube0-a".parse().unwrap()]);
    assert!(roll.unreachable.is_empty() && roll.unknown.is_none());

    pods.tell(|told| told.most = 0);
    for (name, phase) in [("kube0-b", Running), ("kube0-c", Pending), ("kube0-d", Terminating)] {
        pods.set(name, phase);
    }
    seen(&fleet, 4).await;
    let begun = Instant::now();
    let roll = fleet.roll_call().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(roll.reachable, ["kube0-a".parse().unwrap()]);
    let [(pod, why)] = &roll.unreachable[..] else { panic!("{roll:?}") };
    assert_eq!(pod.as_str(), "kube0-b");
    assert!(why.contains("no further connection"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn without_a_pod_the_roll_is_empty_at_once() {
    let pods = FakePods::new();
    let begun = Instant::now();
    for remembered in [stopped(), Remembered::default()] {
        let roll = pods.fleet(remembered).roll_call().await;
        assert!(roll.reachable.is_empty() && roll.unreachable.is_empty() && roll.unknown.is_none());
    }
    pods.be_unknown();
    let roll = pods.fleet(stopped()).roll_call().await;
    assert_eq!(roll.unknown, None, "no pod is wanted, so none is missed");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn pods_that_nobody_can_look_up_are_told_to_be_unknown() {
    let pods = FakePods::new();
    pods.be_unknown();
    let fleet = pods.fleet(Remembered::default());
    let begun = Instant::now();
    let roll = fleet.roll_call().await;
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(roll.unknown.is_some(), "{roll:?}");
}

#[tokio::test(start_paused = true)]
async fn a_remark_stands_beside_a_pod_until_it_answers() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    let lease = lease(&fleet).await;
    lease.remark(Some("did not answer"));
    let seen = || fleet.watch().borrow().pods[0].clone();
    assert_eq!((seen().status, seen().reason.as_deref()), (PodStatus::Ready, Some("did not answer")));
    lease.remark(None);
    assert_eq!(seen().reason, None);
    // What was true of a connection is not true of the next one.
    lease.remark(Some("did not answer"));
    pods.break_connection(1);
    let mut snapshots = fleet.watch();
    snapshots.wait_for(|snapshot| snapshot.ready == 0).await.map(drop).unwrap();
    ready(&fleet, 1).await;
    assert_eq!(seen().reason, None);
}

#[tokio::test(start_paused = true)]
async fn what_pods_said_of_themselves_is_forgotten_with_them_while_others_are_there() {
    let pods = FakePods::new();
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    ready(&fleet, 1).await;
    pods.tell(|told| told.version = "v0.34.0".to_owned());
    pods.set("kube0-b", Running);
    ready(&fleet, 2).await;
    let told = |snapshot: &crate::fleet::NodeSnapshot| snapshot.remembered.reported().versions;
    assert_eq!(told(&fleet.watch().borrow()), ["v0.33.1", "v0.34.0"]);
    for name in ["kube0-a", "kube0-b"] {
        pods.end(name);
        let mut snapshots = fleet.watch();
        let now = snapshots.wait_for(|snapshot| told(snapshot) == ["v0.34.0"]);
        tokio::time::timeout(Duration::from_secs(10), now).await.expect("the last word counts").unwrap();
    }
}
