//! The Kubernetes backend against an API server made for tests: what it applies, sees, asks and says.

use std::time::Duration;

use buildfleet::backend::kubernetes::{KubernetesBackend, KubernetesNode};
use buildfleet::backend::{ApplyError, Backend, Installation, LogsError, LogsWanted, PodPhase, Pods, Removal};
use buildfleet::builder::{Driver, Endpoint, KubeContext, Node, PodName};
use buildfleet::options::{DriverOptions, split_driver_opts};
use buildfleet::report::chain;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::api_server::ApiServer;

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn backend(context: KubeContext, driver_opts: &[&str]) -> KubernetesBackend {
    KubernetesBackend::start(node(context, driver_opts, "anna"))
}

/// Node `kube0` of somebody's daemon.
pub(crate) fn node(context: KubeContext, driver_opts: &[&str], who: &str) -> KubernetesNode {
    let given: Vec<String> = driver_opts.iter().map(|opt| (*opt).to_owned()).collect();
    let driver_opts = split_driver_opts(&given).unwrap();
    let DriverOptions::Kubernetes(options) = DriverOptions::parse(Driver::Kubernetes, &driver_opts).unwrap() else {
        panic!("no kubernetes options");
    };
    let node = Node {
        name: "kube0".parse().unwrap(),
        endpoint: Endpoint::Kubernetes(context.clone()),
        driver_opts,
        platforms: Vec::new(),
        buildkitd_flags: Vec::new(),
        config: None,
    };
    let us = Installation { id: format!("{who}-id"), who: format!("{who}@laptop") };
    KubernetesNode { node, context, options, api_server: None, us }
}

pub(crate) async fn seen(backend: &KubernetesBackend, what: impl FnMut(&Pods) -> bool) -> Pods {
    let mut pods = backend.pods();
    let found = tokio::time::timeout(SOON, pods.wait_for(what)).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("not seen in time: {:#?}", *backend.pods().borrow()),
    }
}

pub(crate) fn pod(name: &str, status: &Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": "kube0"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "buildkitd", "image": "moby/buildkit"}]},
        "status": status,
    })
}

pub(crate) fn running() -> Value {
    container(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), 0)
}

fn container(state: &Value, restarts: u32) -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "buildkitd", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
    }]})
}

fn texts(pods: &Pods, name: &str) -> Vec<String> {
    let name: PodName = name.parse().unwrap();
    pods.get(&name).unwrap().story.iter().map(|line| line.text.clone()).collect()
}

fn count(server: &ApiServer, what: &str) -> usize {
    server.requests().iter().filter(|request| *request == what).count()
}

#[tokio::test]
async fn the_secret_is_made_once_and_the_deployment_is_applied_each_time() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    seen(&backend, |pods| pods.known && !pods.applied).await;
    backend.apply(2).await.unwrap();
    let (first, secret) = (server.object("deployments").unwrap(), server.object("secrets").unwrap());
    assert_eq!(first["spec"]["replicas"], 2);
    assert_eq!(first["kind"], "Deployment");
    assert!(backend.pods().borrow().applied, "what was applied is known at once");
    backend.apply(3).await.unwrap();
    let again = server.object("deployments").unwrap();
    assert_eq!(again["spec"]["replicas"], 3);
    assert_eq!(again["spec"]["template"], first["spec"]["template"], "a second apply restarts no pod");
    assert_eq!(server.object("secrets").unwrap(), secret, "a valid Secret is not rewritten");
    assert_eq!(count(&server, "POST secrets"), 1);
    assert_eq!(count(&server, "PATCH secrets"), 0);
    // Somebody removes the Secret: new certificates, and pods that know of them.
    server.remove("secrets", secret["metadata"]["name"].as_str().unwrap());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    backend.apply(3).await.unwrap();
    assert_ne!(server.object("secrets").unwrap()["data"], secret["data"]);
    assert_ne!(server.object("deployments").unwrap()["spec"]["template"], first["spec"]["template"]);
}

#[tokio::test]
async fn certificates_about_to_end_are_replaced() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    let mut secret = server.object("secrets").unwrap();
    for (_, end) in secret["metadata"]["annotations"].as_object_mut().unwrap() {
        *end = json!("2026-01-01T00:00:00Z");
    }
    server.put("secrets", secret.clone());
    backend.apply(1).await.unwrap();
    assert_eq!(count(&server, "PATCH secrets"), 1);
    assert_ne!(server.object("secrets").unwrap()["data"], secret["data"]);
}

#[tokio::test]
async fn exec_alone_needs_no_secret() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &["transport=exec"]);
    backend.apply(1).await.unwrap();
    assert!(server.requests().iter().all(|request| !request.ends_with(" secrets")), "{:?}", server.requests());
    // An account for this transport has no right to Secrets; one of all transports removes what another one left.
    server.refuse("DELETE secrets", 403, "secrets is forbidden");
    backend.delete(Removal::default()).await.unwrap();
    assert_eq!((count(&server, "DELETE deployments"), count(&server, "DELETE secrets")), (1, 2));
    let other = self::backend(server.context(), &[]);
    other.apply(1).await.unwrap();
    assert!(chain(&other.delete(Removal::default()).await.unwrap_err()).contains("not allowed to delete secrets"));
}

#[tokio::test]
async fn pods_are_followed_by_watches_without_another_request() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    server.put("pods", pod("kube0-a", &running()));
    let pods = seen(&backend, |pods| pods.known && pods.pods.len() == 1).await;
    assert_eq!(pods.pods[0].phase, PodPhase::Running);
    assert_eq!(texts(&pods, "kube0-a"), ["scheduled on n1", "started buildkitd"]);
    // Both watches have to be under way before their absence of requests means anything.
    while count(&server, "WATCH pods") + count(&server, "WATCH deployments") < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = server.requests();
    for round in 0..20 {
        server.put("pods", pod(&format!("kube0-{round}"), &running()));
    }
    seen(&backend, |pods| pods.pods.len() == 21).await;
    server.remove("pods", "kube0-a");
    let pods = seen(&backend, |pods| pods.pods.len() == 20).await;
    assert_eq!(pods.ended[&"kube0-a".parse::<PodName>().unwrap()].reason, "deleted");
    assert_eq!(server.requests(), before);
    assert_eq!(before.len(), 4, "{before:?}");
}

#[tokio::test]
async fn events_are_watched_while_a_pod_does_not_run() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    seen(&backend, |pods| pods.known).await;
    assert_eq!(count(&server, "LIST events"), 0);
    server.put("pods", pod("kube0-a", &json!({"phase": "Pending"})));
    server.put(
        "events",
        json!({
            "metadata": {"name": "e1"}, "involvedObject": {"kind": "Pod", "name": "kube0-a"},
            "reason": "FailedMount", "message": "no such disk",
        }),
    );
    let pods = seen(&backend, |pods| pods.pods.iter().any(|pod| pod.story.len() > 1)).await;
    assert_eq!(texts(&pods, "kube0-a"), ["scheduled on n1", "cannot mount a volume: no such disk"]);
}

#[tokio::test]
async fn without_the_right_to_see_events_the_pods_are_still_followed() {
    let server = ApiServer::start().await;
    server.refuse("LIST events", 403, "events is forbidden");
    let backend = backend(server.context(), &[]);
    server.put("pods", pod("kube0-a", &json!({"phase": "Pending"})));
    let pods = seen(&backend, |pods| !pods.notes.is_empty()).await;
    assert!(pods.known);
    assert!(pods.notes[0].text.starts_with("not allowed to watch events in namespace builds"), "{:?}", pods.notes);
    assert!(!pods.notes[0].trouble);
    server.put("pods", pod("kube0-a", &running()));
    seen(&backend, |pods| pods.pods[0].phase == PodPhase::Running).await;
    assert_eq!(count(&server, "LIST events"), 1);
}

#[tokio::test]
async fn a_crash_is_told_with_its_last_lines() {
    let server = ApiServer::start().await;
    server.state(|state| state.logs.push_back("starting\nbuildkitd: bad config\n".to_owned()));
    let backend = backend(server.context(), &[]);
    server.put("pods", pod("kube0-a", &container(&json!({"terminated": {"exitCode": 1, "reason": "Error"}}), 0)));
    let pods = seen(&backend, |pods| pods.pods.iter().any(|pod| pod.story.len() > 2)).await;
    let expected =
        ["scheduled on n1", "buildkitd ended: exit code 1", "buildkitd: starting", "buildkitd: buildkitd: bad config"];
    assert_eq!(texts(&pods, "kube0-a"), expected);
    assert_eq!(pods.pods[0].phase, PodPhase::Failed);
    let end = pods.pods[0].last_end.clone().unwrap();
    assert_eq!(end.to_string(), "exit code 1: starting\nbuildkitd: bad config");
    assert_eq!(count(&server, "log pods"), 1);
}

#[tokio::test]
async fn what_is_refused_is_named() {
    for (what, code, message, expected, hint) in [
        (
            "PATCH deployments",
            403,
            "deployments.apps \"kube0\" is forbidden",
            "not allowed to patch deployments in namespace builds: deployments.apps \"kube0\" is forbidden",
            Some("docs/rbac.md"),
        ),
        (
            "GET secrets",
            403,
            "secrets is forbidden",
            "not allowed to get secrets in namespace builds: secrets is forbidden",
            Some("docs/rbac.md"),
        ),
        (
            "POST secrets",
            404,
            "namespaces \"builds\" not found",
            "failed to create secret kube0-tls: namespace builds does not exist",
            Some("kubectl create namespace builds"),
        ),
        (
            "PATCH deployments",
            422,
            "spec.replicas is invalid",
            "failed to patch deployment kube0: spec.replicas is invalid",
            None,
        ),
    ] {
        let server = ApiServer::start().await;
        server.refuse(what, code, message);
        let error = backend(server.context(), &[]).apply(1).await.unwrap_err();
        assert_eq!(chain(&error), expected);
        let told = error.hint().unwrap_or_default();
        assert!(hint.map_or(told.is_empty(), |hint| told.contains(hint)), "{told}");
    }
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_named_and_what_was_seen_stays() {
    let mut server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    server.put("pods", pod("kube0-a", &running()));
    seen(&backend, |pods| pods.known && pods.pods.len() == 1).await;
    server.crash();
    let error = backend.apply(1).await.unwrap_err();
    assert!(matches!(error, ApplyError::Unreachable { .. }), "{error:?}");
    let told = chain(&error);
    assert!(told.starts_with(&format!("failed to reach context `rig` ({}): ", server.url())), "{told}");
    assert!(told.contains("Connection refused"), "{told}");
    let pods = seen(&backend, |pods| !pods.known).await;
    assert_eq!(pods.pods.len(), 1);
    assert!(pods.notes.iter().any(|note| note.trouble && note.text.contains(server.url())), "{:?}", pods.notes);
}

#[tokio::test]
async fn a_kubeconfig_that_is_gone_is_named() {
    let missing = KubeContext::File { paths: vec!["/nowhere/config".into()], context: "rig".to_owned() };
    let backend = backend(missing, &[]);
    let error = backend.apply(1).await.unwrap_err();
    assert_eq!(chain(&error), "failed to read /nowhere/config: No such file or directory (os error 2)");
    let pods = seen(&backend, |pods| !pods.notes.is_empty()).await;
    assert!(!pods.known && pods.notes[0].text.contains("/nowhere/config"), "{:?}", pods.notes);
}

#[tokio::test]
async fn a_new_token_in_the_kubeconfig_is_taken_when_the_old_one_is_refused() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    server.state(|state| state.token = Some("second"));
    assert_eq!(chain(&backend.apply(1).await.unwrap_err()), "failed to list deployment kube0: Unauthorized");
    server.write_kubeconfig("second");
    backend.apply(1).await.unwrap();
    server.state(|state| state.token = Some("third"));
    server.write_kubeconfig("third");
    backend.delete(Removal::default()).await.unwrap();
}

#[tokio::test]
async fn everything_is_deleted_and_nothing_left_is_success() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    backend.delete(Removal::default()).await.unwrap();
    assert_eq!((server.object("deployments"), server.object("secrets")), (None, None));
    seen(&backend, |pods| pods.known && !pods.applied).await;
    backend.delete(Removal::default()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_deleted_is_named_and_the_rest_is_deleted() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    backend.apply(1).await.unwrap();
    server.refuse("DELETE deployments", 403, "no");
    let error = backend.delete(Removal::default()).await.unwrap_err();
    let expected = "failed to delete deployment kube0: not allowed to delete deployments in namespace builds: no";
    assert_eq!(chain(&error), expected);
    assert_eq!(server.object("secrets"), None);
    server.refuse("DELETE secrets", 500, "storage is gone");
    let told = chain(&backend.delete(Removal::default()).await.unwrap_err());
    assert!(told.contains("deployment kube0") && told.contains("storage is gone"), "{told}");
}

#[tokio::test]
async fn output_is_read_from_the_pod() {
    let server = ApiServer::start().await;
    let backend = backend(server.context(), &[]);
    server.state(|state| state.logs.push_back("one\ntwo\n".to_owned()));
    let wanted = LogsWanted { follow: false, tail: Some(2) };
    let name: PodName = "kube0-a".parse().unwrap();
    let mut output = backend.logs(&name, wanted).await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = output.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(text, b"one\ntwo\n");
    server.refuse("log pods", 404, "pods \"kube0-a\" not found");
    assert!(matches!(backend.logs(&name, wanted).await, Err(LogsError::Gone(_))));
}
