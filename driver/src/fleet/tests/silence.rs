//! Pods that fall silent although their connections stand.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::pods::FakePods;
use super::stream::stream;
use super::{LONG, lease, ready};
use crate::backend::PodPhase::Running;
use crate::backend::Transport::{self, Exec, PodIp, PortForward, Tcp, Unix};
use crate::fleet::{PodStatus, Remembered};

/// From the moment of silence until the client is told.
const TOLD: Duration = Duration::from_secs(3);

fn pods_by(transport: Transport) -> std::sync::Arc<FakePods> {
    let pods = FakePods::new();
    pods.tell(|told| told.transport = transport);
    pods
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_falls_silent_in_mid_build_is_given_up_and_named_in_time() {
    for transport in [Exec, PortForward] {
        // At any moment between two checks.
        for millis in (0..500).step_by(50) {
            let pods = pods_by(transport);
            let fleet = pods.fleet(Remembered::default());
            pods.set("kube0-a", Running);
            let lease = lease(&fleet).await;
            let mut stream = stream(&lease).await;
            sleep(Duration::from_secs(5) + Duration::from_millis(millis)).await;
            pods.drop_everything();
            let begun = Instant::now();
            assert!(stream.from.data().await.unwrap().is_err());
            let fate = lease.fate().await;
            assert!(begun.elapsed() < TOLD, "told after {:?}", begun.elapsed());
            let text = fate.text.strip_prefix("pod kube0-a on node-b has not answered for 2.").expect(&fate.text);
            assert!(text.ends_with(" s"), "{}", fate.text);
            assert!(!lease.is_usable());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_pod_is_ready_again_when_it_answers_and_not_before() {
    let pods = pods_by(Exec);
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    let lease = lease(&fleet).await;
    pods.drop_everything();
    pods.tell(|told| told.most = 0);
    ready(&fleet, 0).await;
    sleep(LONG).await;
    let snapshot = fleet.watch().borrow().clone();
    assert_eq!((snapshot.ready, snapshot.pods[0].status), (0, PodStatus::Starting));
    assert!(lease.requests().await.is_err());
    pods.tell(|told| told.most = usize::MAX);
    ready(&fleet, 1).await;
    assert!(lease.is_usable());
    assert!(lease.requests().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_builds_is_not_asked_whether_it_is_there() {
    let pods = pods_by(Exec);
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    drop(lease(&fleet).await);
    sleep(Duration::from_secs(1)).await;
    let before = pods.count("Check");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(pods.count("Check"), before);
    let lease = lease(&fleet).await;
    // It may have fallen silent long ago: that shows as fast.
    pods.drop_everything();
    timeout(TOLD, async {
        while lease.is_usable() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_busy_pod_that_sends_anything_at_all_is_there() {
    let pods = pods_by(Exec);
    pods.tell(|told| (told.checks, told.chatter) = (false, Some(Duration::from_millis(1500))));
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    let lease = lease(&fleet).await;
    let mut stream = stream(&lease).await;
    let begun = Instant::now();
    while let Some(Ok(_)) = stream.from.data().await {}
    // A connection on which nothing is answered is of no use in the end.
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn where_the_pods_kernel_answers_the_pod_may_be_as_slow_as_it_likes() {
    for (transport, checks) in [(PodIp, 5), (Tcp, 5), (Unix, 0)] {
        let pods = pods_by(transport);
        pods.tell(|told| told.checks = false);
        let fleet = pods.fleet(Remembered::default());
        pods.set("kube0-a", Running);
        let lease = lease(&fleet).await;
        sleep(LONG).await;
        assert!(lease.is_usable());
        let before = pods.count("Check");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pods.count("Check") - before, checks, "there is always something to acknowledge");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_kernel_gave_up_is_a_silent_pod() {
    for (kind, wanted) in [
        (io::ErrorKind::TimedOut, "pod kube0-a on node-b has not answered for "),
        (io::ErrorKind::HostUnreachable, "pod kube0-a on node-b has not answered for "),
        (io::ErrorKind::ConnectionReset, "lost the connection to pod kube0-a, which still runs"),
    ] {
        let pods = pods_by(PodIp);
        let fleet = pods.fleet(Remembered::default());
        pods.set("kube0-a", Running);
        let lease = lease(&fleet).await;
        sleep(Duration::from_secs(1)).await;
        pods.break_with(kind);
        let begun = Instant::now();
        let fate = lease.fate().await;
        assert!(fate.text.starts_with(wanted), "{}", fate.text);
        let waited = begun.elapsed() > Duration::from_secs(1);
        assert_eq!(waited, kind == io::ErrorKind::ConnectionReset, "{kind}: after {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_on_its_way_through_the_api_server_says_so() {
    let pods = pods_by(PortForward);
    let fleet = pods.fleet(Remembered::default());
    pods.set("kube0-a", Running);
    let lease = lease(&fleet).await;
    pods.break_with(io::ErrorKind::ConnectionReset);
    let text =
        "lost the connection to pod kube0-a, which went through the API server (port-forward); the pod itself may run";
    assert_eq!(lease.fate().await.text, text);
}
