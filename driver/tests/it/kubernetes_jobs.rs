//! Builds as Jobs against an API server made for tests: what is made in which order, what is told, and what is left.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use buildfleet::backend::ApplyError;
use buildfleet::backend::kubernetes::jobs::{
    JobBuild, JobEnd, JobError, JobEvent, JobFollow, JobState, Jobs, Pieces, RegistrySecret, RemoveWhen, Wanted,
};
use buildfleet::builder::{Endpoint, KubeContext, Node};
use buildfleet::options::parse_for_job;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::api_server::{ApiServer, State};
use crate::support::api_streams::Script;

const SOON: Duration = Duration::from_secs(20);

pub(crate) fn wanted(driver_opts: &str, build: JobBuild) -> Wanted {
    let given: Vec<String> = Some(driver_opts.to_owned()).filter(|opts| !opts.is_empty()).into_iter().collect();
    let node = Node {
        name: "build".parse().unwrap(),
        endpoint: Endpoint::Kubernetes(KubeContext::InCluster),
        driver_opts: BTreeMap::new(),
        platforms: Vec::new(),
        buildkitd_flags: Vec::new(),
        config: None,
    };
    Wanted { node, options: parse_for_job(&given).unwrap(), build, docker_config: None, detach: false }
}

fn with_secrets() -> JobBuild {
    JobBuild {
        secrets: BTreeMap::from([("word".to_owned(), b"shibboleth".to_vec())]),
        registry: RegistrySecret::Own(b"{\"auths\":{}}".to_vec()),
        ..JobBuild::default()
    }
}

pub(crate) fn jobs(server: &ApiServer) -> Jobs {
    Jobs::new(server.context(), None, None)
}

pub(crate) fn no_context() -> Pieces<'static> {
    futures::stream::empty().boxed()
}

/// Everything that a run tells, and how it ended.
pub(crate) async fn run(
    server: &ApiServer,
    wanted: Wanted,
    context: Pieces<'static>,
) -> (Vec<JobEvent>, Result<(), JobError>) {
    let (events, mut heard) = mpsc::channel(1000);
    let jobs = jobs(server);
    let ended = tokio::time::timeout(SOON, Box::pin(jobs.run(wanted, context, &events))).await.expect("an end in time");
    drop(events);
    let mut told = Vec::new();
    while let Some(event) = heard.recv().await {
        told.push(event);
    }
    (told, ended)
}

pub(crate) fn end(told: &[JobEvent]) -> &JobEnd {
    match told.last() {
        Some(JobEvent::End(end)) => end,
        other => panic!("no end: {other:?}"),
    }
}

fn news(told: &[JobEvent]) -> Vec<&str> {
    let lines = told.iter().filter_map(|event| match event {
        JobEvent::News { line, .. } => Some(line.text.as_str()),
        _ => None,
    });
    lines.collect()
}

pub(crate) fn pod(status: &Value) -> Value {
    json!({
        "metadata": {
            "name": "build-x1", "labels": {"batch.kubernetes.io/job-name": "build"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "build", "uid": "uid of build"}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "buildkitd", "image": "moby/buildkit"}]},
        "status": status,
    })
}

pub(crate) fn container(state: &Value) -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "buildkitd", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }]})
}

pub(crate) fn exited(code: i32) -> Value {
    let ended = json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }}});
    let mut status = container(&ended);
    status["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
    status
}

pub(crate) fn preparing(state: &Value) -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "context", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }]})
}

/// What the Job's controller says of it.
pub(crate) fn over(server: &ApiServer, condition: &str, reason: &str) {
    let mut job = server.object("jobs").unwrap();
    let condition =
        json!({"type": condition, "status": "True", "reason": reason, "message": format!("{reason} it is")});
    job["status"] = json!({"conditions": [condition]});
    server.put("jobs", job);
}

async fn until(server: &ApiServer, what: &str, is: impl Fn(&mut State) -> bool) {
    let asking = async {
        while !server.state(&is) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, asking).await.unwrap_or_else(|_| panic!("{what}: not in time: {:?}", server.requests()));
}

pub(crate) async fn until_watched(server: &ApiServer) {
    until(server, "the watch of pods", |state| state.requests.contains(&"WATCH pods".to_owned())).await;
}

/// The changes that were asked for.
fn changes(server: &ApiServer) -> Vec<String> {
    let is_change = |request: &String| ["POST", "PATCH", "DELETE"].iter().any(|verb| request.starts_with(verb));
    server.requests().into_iter().filter(is_change).collect()
}

pub(crate) fn names(server: &ApiServer, resource: &str) -> Vec<String> {
    server.state(|state| state.names(resource))
}

#[tokio::test]
async fn the_job_comes_first_then_the_secrets_that_it_owns_and_only_then_may_it_run() {
    let server = ApiServer::start().await;
    let build = async {
        until(&server, "the job", |state| state.object("jobs").is_some_and(|job| job["spec"]["suspend"] == false))
            .await;
        server.state(|state| state.logs.push_back("2026-11-22T00:00:00.5Z #1 hello\n".to_owned()));
        server.put("pods", pod(&container(&json!({"running": {}}))));
        server.put("pods", pod(&exited(0)));
        over(&server, "Complete", "CompletionsReached");
    };
    let ((told, ended), ()) = tokio::join!(run(&server, wanted("", with_secrets()), no_context()), build);
    ended.unwrap();
    assert_eq!(changes(&server), ["POST jobs", "POST secrets", "POST secrets", "PATCH jobs"]);
    for name in ["build-registry", "build-secrets"] {
        let secret = server.state(|state| state.objects["secrets"][name].clone());
        assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "uid of build", "{secret}");
    }
    assert!(matches!(&told[0], JobEvent::Job(job) if job.name == "build"), "{told:?}");
    assert_eq!(news(&told)[0], "scheduled on n1");
    assert!(told.contains(&JobEvent::Output(Bytes::from_static(b"#1 hello\n"))), "{told:?}");
    let success = JobEnd { exit_code: Some(0), state: JobState::Succeeded, reason: String::new(), detail: None };
    assert_eq!(end(&told), &success);
}

#[tokio::test]
async fn a_secret_that_is_refused_takes_the_job_along() {
    let server = ApiServer::start().await;
    server.refuse("POST secrets", 403, "secrets is forbidden");
    let (told, ended) = run(&server, wanted("", with_secrets()), no_context()).await;
    let error = ended.unwrap_err();
    assert!(matches!(&error, JobError::Cluster(ApplyError::Forbidden { resource: "secrets", .. })), "{error}");
    assert!(told.is_empty());
    assert_eq!(changes(&server), ["POST jobs", "POST secrets", "DELETE jobs"]);
}

#[tokio::test]
async fn what_a_daemon_left_half_made_is_taken_by_the_next_run() {
    let server = ApiServer::start().await;
    let labels = json!({"app.kubernetes.io/component": "build-job", "app.kubernetes.io/managed-by": "buildfleet"});
    let preparing = json!({"buildfleet.internal/preparing": "true"});
    let now = k8s_time(std::time::SystemTime::now());
    for (name, created, annotations) in [
        ("abandoned", "2026-01-01T00:00:00Z", &preparing),
        ("at-work", now.as_str(), &preparing),
        ("suspended-by-its-user", "2026-01-01T00:00:00Z", &json!({})),
    ] {
        let metadata =
            json!({"name": name, "creationTimestamp": created, "labels": labels, "annotations": annotations});
        server.put("jobs", json!({"metadata": metadata, "spec": {"suspend": true, "template": {}}}));
    }
    run(&server, Wanted { detach: true, ..wanted("", JobBuild::default()) }, no_context()).await.1.unwrap();
    assert_eq!(names(&server, "jobs"), ["at-work", "build", "suspended-by-its-user"]);
}

fn k8s_time(time: std::time::SystemTime) -> String {
    let time: buildfleet_proto::Timestamp = time.into();
    time.to_string()
}

#[tokio::test]
async fn one_that_is_there_is_not_touched() {
    let server = ApiServer::start().await;
    server.put("jobs", json!({"metadata": {"name": "build", "uid": "other"}, "spec": {"template": {}}}));
    let (_, ended) = run(&server, wanted("", with_secrets()), no_context()).await;
    assert_eq!(ended.unwrap_err().to_string(), "job build is there already in namespace builds");
    assert_eq!(changes(&server), ["POST jobs"]);

    // Nor is one followed or removed that is somebody else's.
    let (events, _heard) = mpsc::channel(10);
    let followed = jobs(&server).follow("build", JobFollow { follow: true, tail: None }, &events).await;
    assert_eq!(followed.unwrap_err().to_string(), "job build in namespace builds is no build of buildfleet");
    let removed = jobs(&server).remove("build", RemoveWhen::Always).await;
    assert!(matches!(removed, Err(JobError::Foreign { .. })));
    assert_eq!(names(&server, "jobs"), ["build"]);
}

#[tokio::test]
async fn a_named_secret_for_registries_is_used_made_or_missed() {
    let named = || JobBuild {
        registry: RegistrySecret::Named { name: "regcred".to_owned(), key: RegistrySecret::KEY.to_owned() },
        ..JobBuild::default()
    };
    let server = ApiServer::start().await;
    let (_, ended) = run(&server, wanted("", named()), no_context()).await;
    assert_eq!(ended.unwrap_err().to_string(), "there is no Secret regcred in namespace builds");
    assert!(changes(&server).is_empty());

    server.put("secrets", json!({"metadata": {"name": "regcred"}, "data": {"password": "eA=="}}));
    let (_, ended) = run(&server, wanted("", named()), no_context()).await;
    assert_eq!(ended.unwrap_err().to_string(), "Secret regcred in namespace builds has no key .dockerconfigjson");

    // As `kubectl create secret generic --from-file=config.json` makes it.
    server.put("secrets", json!({"metadata": {"name": "regcred"}, "data": {"config.json": "e30="}}));
    let detached = |wanted: Wanted| Wanted { detach: true, ..wanted };
    run(&server, detached(wanted("", named())), no_context()).await.1.unwrap();
    let job = server.object("jobs").unwrap();
    assert!(job.to_string().contains(r#"{"key":"config.json","path":"config.json"}"#), "{job}");
    assert_eq!(names(&server, "secrets"), ["regcred"]);

    let server = ApiServer::start().await;
    let wanted = Wanted { docker_config: Some(b"{\"auths\":{}}".to_vec()), ..detached(wanted("", named())) };
    run(&server, wanted, no_context()).await.1.unwrap();
    let secret = server.object("secrets").unwrap();
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    assert!(secret["metadata"]["ownerReferences"].is_null(), "it stays: {secret}");
}

#[tokio::test]
async fn a_context_is_handed_to_the_pod_that_waits_for_it_and_detached_is_the_end_then() {
    let server = ApiServer::start().await;
    server.state(|state| state.exec = Script::Receive);
    let build = JobBuild { uploads_context: true, ..JobBuild::default() };
    let pod_comes = async {
        until_watched(&server).await;
        server.put("pods", pod(&preparing(&json!({"running": {}}))));
    };
    // What is there together is one block; nothing is waited for.
    let pieces = [Some("one"), Some("two"), None, Some("three")];
    let mut pieces = pieces.map(|piece| piece.map(|piece| Ok(Bytes::from(piece)))).into_iter();
    let context = futures::stream::poll_fn(move |cx| match pieces.next() {
        Some(None) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        piece => Poll::Ready(piece.flatten()),
    });
    let running = run(&server, Wanted { detach: true, ..wanted("", build) }, context.boxed());
    let ((told, ended), ()) = tokio::join!(running, pod_comes);
    ended.unwrap();
    assert!(told.contains(&JobEvent::Uploaded(11)), "{told:?}");
    assert!(!told.iter().any(|event| matches!(event, JobEvent::End(_))), "{told:?}");
    let (received, executed) = server.state(|state| (state.received.clone(), state.executed.clone()));
    assert_eq!(String::from_utf8(received).unwrap(), "6\nonetwo5\nthree0\n");
    assert!(executed[0].starts_with("container=context "), "{executed:?}");
    assert_eq!(names(&server, "jobs"), ["build"]);
}

#[tokio::test]
async fn a_context_that_does_not_get_there_takes_the_job_along() {
    let broken: fn() -> Pieces<'static> = || futures::stream::iter([Err("the client is gone".into())]).boxed();
    let whole: fn() -> Pieces<'static> = || futures::stream::iter([Ok(Bytes::from_static(b"x"))]).boxed();
    for (script, context, message) in [
        (Script::Receive, broken, "the context has broken off"),
        (Script::Fail("tar: no space left".to_owned()), whole, "failed to hand the context over to pod build-x1"),
    ] {
        let server = ApiServer::start().await;
        server.state(|state| state.exec = script);
        let pod_comes = async {
            until_watched(&server).await;
            server.put("pods", pod(&preparing(&json!({"running": {}}))));
        };
        let build = JobBuild { uploads_context: true, ..JobBuild::default() };
        let ((_, ended), ()) = tokio::join!(run(&server, wanted("", build), context()), pod_comes);
        assert_eq!(ended.unwrap_err().to_string(), message);
        assert!(names(&server, "jobs").is_empty() && names(&server, "pods").is_empty(), "{message}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_builds_leaves_the_job() {
    let server = ApiServer::start().await;
    let jobs = jobs(&server);
    let (events, mut heard) = mpsc::channel(1000);
    let leaving = async {
        until_watched(&server).await;
        server.put("pods", pod(&container(&json!({"running": {}}))));
        while !matches!(heard.recv().await, Some(JobEvent::News { line, .. }) if line.text == "started buildkitd") {}
        drop(heard);
    };
    let running = Box::pin(jobs.run(wanted("", JobBuild::default()), no_context(), &events));
    let (ended, ()) = tokio::time::timeout(SOON, async { tokio::join!(running, leaving) }).await.unwrap();
    ended.unwrap();
    assert_eq!(names(&server, "jobs"), ["build"]);
}
