//! Orders to go: whom a pod waits for, and whom not.

use super::*;

#[tokio::test]
async fn a_pod_that_is_told_to_go_waits_for_those_who_speak_to_it_and_may_be_called_back() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    let pid = place.pid(0).await;
    let _listener = UnixListener::bind(place.path("run/lap/0.sock")).unwrap();
    let build = backend.dial(&pod("lap-0")).await.unwrap();
    let phase = |wanted| move |pods: &Pods| pods.pods.iter().any(|pod| pod.phase == wanted && pod.incarnation == 1);

    backend.apply(0).await.unwrap();
    let pods = until(&backend, phase(PodPhase::Terminating)).await;
    assert_eq!(pods.pods[0].story.last().unwrap().text, "was asked to stop, and waits for its builds");
    // Longer than from SIGTERM to SIGKILL.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_gone(pid));
    backend.apply(1).await.unwrap();
    until(&backend, phase(PodPhase::Running)).await;

    backend.apply(0).await.unwrap();
    until(&backend, phase(PodPhase::Terminating)).await;
    drop(build);
    let pods = until(&backend, |pods| pods.pods.is_empty()).await;
    assert_eq!(pods.ended[&pod("lap-0")].to_string(), "stopped");
    assert!(is_gone(pid));
    assert_eq!(std::fs::read_to_string(place.path("state/lap/0/buildkitd.log")).unwrap().matches("started").count(), 1);
}

#[tokio::test]
async fn a_daemon_that_ends_does_not_wait_for_those_who_speak_to_its_pods() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    let pid = place.pid(0).await;
    let _listener = UnixListener::bind(place.path("run/lap/0.sock")).unwrap();
    let _build = backend.dial(&pod("lap-0")).await.unwrap();
    backend.apply(0).await.unwrap();
    until(&backend, |pods| pods.pods.iter().any(|pod| pod.phase == PodPhase::Terminating)).await;
    drop(backend);
    assert!(is_gone(pid));
}
