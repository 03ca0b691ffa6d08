//! Ways into a pod, against an API server made for tests.

use buildfleet::backend::{Backend, DialError, Dialed, Transport};
use buildfleet::builder::PodName;
use buildfleet::report::chain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kubernetes::{backend, pod, running, seen};
use crate::support::api_server::ApiServer;
use crate::support::api_streams::Script;

const REFUSED: &str = "failed to connect to localhost:1234: dial tcp4 127.0.0.1:1234: connect: connection refused";

fn name() -> PodName {
    "kube0-a".parse().unwrap()
}

/// The pod says `ready` and repeats what it hears.
async fn talk(dialed: &mut Dialed) {
    let mut heard = [0; 5];
    dialed.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ready");
    dialed.stream.write_all(b"hello").await.unwrap();
    dialed.stream.flush().await.unwrap();
    dialed.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

async fn server_with_pod() -> ApiServer {
    let server = ApiServer::start().await;
    server.put("pods", pod("kube0-a", &running()));
    server
}

#[tokio::test]
async fn exec_reaches_a_pod() {
    let server = server_with_pod().await;
    let backend = backend(server.context(), &["transport=exec"]);
    let mut dialed = backend.dial(&name()).await.unwrap();
    assert_eq!(dialed.transport, Transport::Exec);
    talk(&mut dialed).await;
    // Half-close: the command ends, and so does its output, without an error.
    dialed.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    dialed.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_exec_whose_command_ends_at_once_is_no_success() {
    let server = server_with_pod().await;
    server.state(|state| state.exec = Script::Fail("error: dial unix: no such file\n".to_owned()));
    let backend = backend(server.context(), &["transport=exec"]);
    let told = chain(&backend.dial(&name()).await.unwrap_err());
    assert_eq!(told, "failed to reach pod kube0-a by exec: error: dial unix: no such file");
}

#[tokio::test]
async fn port_forward_reaches_a_pod_by_mtls_with_one_request() {
    let server = server_with_pod().await;
    let backend = backend(server.context(), &["transport=port-forward"]);
    backend.apply(1).await.unwrap();
    seen(&backend, |pods| pods.known).await;
    let before = server.requests().len();
    let mut dialed = backend.dial(&name()).await.unwrap();
    assert_eq!(dialed.transport, Transport::PortForward);
    talk(&mut dialed).await;
    let after = server.requests();
    assert_eq!(after[before..].iter().filter(|request| !request.starts_with("WATCH")).count(), 1, "{after:?}");
}

#[tokio::test]
async fn a_daemon_that_applied_nothing_reads_the_secret_once() {
    let server = server_with_pod().await;
    backend(server.context(), &[]).apply(1).await.unwrap();
    let later = backend(server.context(), &["transport=port-forward"]);
    let before = server.requests().iter().filter(|request| *request == "GET secrets").count();
    for _ in 0..3 {
        talk(&mut later.dial(&name()).await.unwrap()).await;
    }
    let after = server.requests().iter().filter(|request| *request == "GET secrets").count();
    assert_eq!(after - before, 1);
}

#[tokio::test]
async fn auto_takes_port_forward_before_exec_where_no_address_is_known() {
    let server = server_with_pod().await;
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    let mut dialed = backend.dial(&name()).await.unwrap();
    assert_eq!(dialed.transport, Transport::PortForward);
    talk(&mut dialed).await;
}

#[tokio::test]
async fn auto_falls_back_to_exec_where_port_forward_is_not_allowed() {
    let server = server_with_pod().await;
    server.refuse("portforward pods", 403, "pods/portforward is forbidden");
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    let mut dialed = backend.dial(&name()).await.unwrap();
    assert_eq!(dialed.transport, Transport::Exec);
    talk(&mut dialed).await;
    // The second dial does not try again what was refused.
    backend.dial(&name()).await.unwrap();
    assert_eq!(server.requests().iter().filter(|request| *request == "portforward pods").count(), 1);
}

#[tokio::test]
async fn a_pod_that_does_not_listen_yet_is_reported_at_once() {
    let server = server_with_pod().await;
    server.state(|state| state.port = Script::Fail(REFUSED.to_owned()));
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    let begun = std::time::Instant::now();
    let told = chain(&backend.dial(&name()).await.unwrap_err());
    assert_eq!(
        told,
        "failed to reach pod kube0-a by port-forward: nothing listens on port 1234 in the pod: connection refused"
    );
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn when_nothing_is_allowed_every_refusal_is_told() {
    let server = server_with_pod().await;
    server.refuse("portforward pods", 403, "pods/portforward is forbidden");
    server.refuse("exec pods", 403, "pods/exec is forbidden");
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    let told = chain(&backend.dial(&name()).await.unwrap_err());
    assert_eq!(
        told,
        "failed to reach pod kube0-a by exec: pods/exec is forbidden; port-forward: pods/portforward is forbidden"
    );
}

#[tokio::test]
async fn a_pod_that_is_gone_is_said_to_be_gone() {
    let server = server_with_pod().await;
    let backend = backend(server.context(), &["transport=exec"]);
    seen(&backend, |pods| pods.known && pods.pods.len() == 1).await;
    let other: PodName = "kube0-b".parse().unwrap();
    assert!(matches!(backend.dial(&other).await, Err(DialError::Gone(gone)) if gone == other));
    assert!(!server.requests().contains(&"exec pods".to_owned()), "the watch knew it already");
}

#[tokio::test]
async fn a_pod_with_other_certificates_is_not_trusted() {
    let server = server_with_pod().await;
    let backend = backend(server.context(), &["transport=port-forward"]);
    backend.apply(1).await.unwrap();
    let mut secret = server.object("secrets").unwrap();
    // The pod gets the certificates of another node.
    let other = ApiServer::start().await;
    crate::kubernetes::backend(other.context(), &[]).apply(1).await.unwrap();
    secret["data"] = other.object("secrets").unwrap()["data"].clone();
    server.put("secrets", secret);
    let told = chain(&backend.dial(&name()).await.unwrap_err());
    assert!(told.starts_with("failed to reach pod kube0-a by port-forward: invalid peer certificate"), "{told}");
}

#[tokio::test]
async fn a_pod_that_began_with_the_certificates_before_is_still_reached() {
    let server = server_with_pod().await;
    let backend = backend(server.context(), &["transport=port-forward"]);
    backend.apply(1).await.unwrap();
    let before = server.object("secrets").unwrap();
    let mut due = before.clone();
    for (_, end) in due["metadata"]["annotations"].as_object_mut().unwrap() {
        *end = serde_json::json!("2026-01-01T00:00:00Z");
    }
    server.put("secrets", due);
    backend.apply(1).await.unwrap();
    assert_ne!(server.object("secrets").unwrap()["data"], before["data"], "they were renewed");
    talk(&mut backend.dial(&name()).await.unwrap()).await;
    // What the pod has mounted is what it began with.
    server.put("secrets", before);
    talk(&mut backend.dial(&name()).await.unwrap()).await;
}
