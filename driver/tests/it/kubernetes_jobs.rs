//! Builds as Jobs against an API server made for tests: what is made in which order, what is told, and what is left.

use std::collections::BTreeMap;
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

fn wanted(driver_opts: &str, build: JobBuild) -> Wanted {
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

fn jobs(server: &ApiServer) -> Jobs {
    Jobs::new(server.context(), None, None)
}

fn no_context() -> Pieces<'static> {
    futures::stream::empty().boxed()
}

/// Everything that a run tells, and how it ended.
async fn run(server: &ApiServer, wanted: Wanted, context: Pieces<'static>) -> (Vec<JobEvent>, Result<(), JobError>) {
    let (events, mut heard) = mpsc::channel(1000);
    let jobs = jobs(server);
    let ended = tokio::time::timeout(SOON, jobs.run(wanted, context, &events)).await.expect("an end in time");
    drop(events);
    let mut told = Vec::new();
    while let Some(event) = heard.recv().await {
        told.push(event);
    }
    (told, ended)
}

fn end(told: &[JobEvent]) -> &JobEnd {
    match told.last() {
        Some(JobEvent::End(end)) => end,
        other => panic!("no end: {other:?}"),
    }
}

fn news(told: &[JobEvent]) -> Vec<&str> {
    let text = |event| if let &JobEvent::News { line, .. } = &event { Some(line.text.as_str()) } else { None };
    told.iter().filter_map(text).collect()
}

fn pod(status: &Value) -> Value {
    json!({
        "metadata": {
            "name": "build-x1", "labels": {"batch.kubernetes.io/job-name": "build"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "build", "uid": "uid of build"}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "buildkitd", "image": "moby/buildkit"}]},
        "status": status,
    })
}

fn container(state: &Value) -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "buildkitd", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }]})
}

fn exited(code: i32) -> Value {
    let ended = json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }}});
    let mut status = container(&ended);
    status["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
    status
}

fn preparing(state: &Value) -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "context", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }]})
}

/// What the Job's controller says of it.
fn over(server: &ApiServer, condition: &str, reason: &str) {
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

async fn until_watched(server: &ApiServer) {
    until(server, "the watch of pods", |state| state.requests.contains(&"WATCH pods".to_owned())).await;
}

/// The changes that were asked for.
fn changes(server: &ApiServer) -> Vec<String> {
    let is_change = |request: &String| ["POST", "PATCH", "DELETE"].iter().any(|verb| request.starts_with(verb));
    server.requests().into_iter().filter(is_change).collect()
}

fn names(server: &ApiServer, resource: &str) -> Vec<String> {
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
    assert_eq!(news(&told), ["scheduled on n1", "started buildkitd"]);
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
    let pieces = ["one", "three"].map(|piece| Ok(Bytes::from(piece)));
    let context = futures::stream::iter(pieces).boxed();
    let running = run(&server, Wanted { detach: true, ..wanted("", build) }, context);
    let ((told, ended), ()) = tokio::join!(running, pod_comes);
    ended.unwrap();
    assert!(told.contains(&JobEvent::Uploaded(8)), "{told:?}");
    assert!(!told.iter().any(|event| matches!(event, JobEvent::End(_))), "{told:?}");
    let (received, executed) = server.state(|state| (state.received.clone(), state.executed.clone()));
    assert_eq!(String::from_utf8(received).unwrap(), "3\none5\nthree0\n");
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
    let running = jobs.run(wanted("", JobBuild::default()), no_context(), &events);
    let (ended, ()) = tokio::time::timeout(SOON, async { tokio::join!(running, leaving) }).await.unwrap();
    ended.unwrap();
    assert_eq!(names(&server, "jobs"), ["build"]);
}

#[tokio::test]
async fn how_a_job_ended_is_told_in_the_clusters_words() {
    let evicted = |status: Value| {
        let mut status = status;
        status["conditions"] = json!([{
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        }]);
        status
    };
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let starved = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    let backoff = ("Failed", "BackoffLimitExceeded");
    for (status, (condition, reason), exit_code, told_reason) in [
        (exited(1), backoff, Some(1), "exit code 1"),
        (exited(1), ("FailureTarget", "BackoffLimitExceeded"), Some(1), "exit code 1"),
        (evicted(container(&json!({"running": {}}))), backoff, None, "Evicted"),
        (evicted(exited(137)), backoff, None, "Evicted"),
        (container(&killed), backoff, None, "OOMKilled"),
        (container(&json!({"running": {}})), ("Failed", "DeadlineExceeded"), None, "DeadlineExceeded"),
        (preparing(&starved), backoff, None, "init container context ended: exit code 1"),
    ] {
        let server = ApiServer::start().await;
        let happens = async {
            until_watched(&server).await;
            let mut pod = pod(&status);
            if told_reason == "Evicted" {
                pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
            }
            server.put("pods", pod);
            over(&server, condition, reason);
        };
        let ((told, ended), ()) = tokio::join!(run(&server, wanted("", JobBuild::default()), no_context()), happens);
        ended.unwrap();
        let end = end(&told);
        assert_eq!((end.exit_code, end.reason.as_str(), end.state), (exit_code, told_reason, JobState::Failed));
        // It stays as long as its TTL has it.
        assert_eq!(names(&server, "jobs"), ["build"], "{told_reason}");
        // And is told the same afterwards.
        let (events, mut heard) = mpsc::channel(1000);
        jobs(&server).follow("build", JobFollow { follow: false, tail: None }, &events).await.unwrap();
        drop(events);
        let mut last = None;
        while let Some(event) = heard.recv().await {
            last = Some(event);
        }
        assert_eq!(last, Some(JobEvent::End(end.clone())));
        let listed = jobs(&server).list(false).await.unwrap();
        assert_eq!(listed[0].reason.as_deref(), Some(told_reason));
    }
}

#[tokio::test]
async fn a_job_that_can_never_start_is_given_up_at_once_and_another_at_its_timeout() {
    let waiting = |reason: &str, message: &str| preparing(&json!({"waiting": {"reason": reason, "message": message}}));
    let unschedulable = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available: 2 cordoned.",
    }]});
    let pull = "failed to resolve reference \"r/x:1\": r/x:1: not found";
    for (status, opts, reason, detail) in [
        (waiting("ErrImagePull", pull), "", "ErrImagePull", "not found"),
        (waiting("ErrImageNeverPull", "never"), "", "ErrImageNeverPull", "never"),
        (waiting("ImagePullBackOff", "i/o timeout"), "timeout=1s", "ImagePullBackOff", "i/o timeout"),
        (unschedulable, "timeout=1s", "Unschedulable", "cannot be scheduled: 0/2 nodes"),
        (json!({"phase": "Pending"}), "timeout=1s", "it did not start within 1 s", ""),
    ] {
        let server = ApiServer::start().await;
        let happens = async {
            until_watched(&server).await;
            server.put("pods", pod(&status));
        };
        let began = std::time::Instant::now();
        let ((told, ended), ()) = tokio::join!(run(&server, wanted(opts, JobBuild::default()), no_context()), happens);
        ended.unwrap();
        let end = end(&told);
        assert_eq!((end.exit_code, end.reason.as_str(), end.state), (None, reason, JobState::Failed));
        assert!(end.detail.clone().unwrap_or_default().contains(detail), "{end:?}");
        assert_eq!(opts.is_empty(), began.elapsed() < Duration::from_secs(1), "{reason}: {:?}", began.elapsed());
        assert!(names(&server, "jobs").is_empty() && names(&server, "pods").is_empty(), "{reason}");
    }
}

#[tokio::test]
async fn a_pod_that_may_not_be_made_ends_the_job_with_the_words_of_admission() {
    let server = ApiServer::start().await;
    let message = "Error creating: pods \"build-x1\" is forbidden: violates PodSecurity \"restricted:latest\"";
    let event = json!({
        "metadata": {"name": "e1"}, "reason": "FailedCreate", "message": message,
        "involvedObject": {"kind": "Job", "name": "build"},
    });
    server.put("events", event);
    let (told, ended) = run(&server, wanted("", JobBuild::default()), no_context()).await;
    ended.unwrap();
    let end = end(&told);
    assert_eq!((end.reason.as_str(), end.detail.as_deref()), ("FailedCreate", Some(message)));
    assert!(names(&server, "jobs").is_empty());
}

#[tokio::test]
async fn a_job_is_removed_only_in_the_state_that_is_asked_for() {
    let server = ApiServer::start().await;
    run(&server, Wanted { detach: true, ..wanted("", JobBuild::default()) }, no_context()).await.1.unwrap();
    server.put("pods", pod(&container(&json!({"running": {}}))));
    let jobs = jobs(&server);
    let error = jobs.remove("build", RemoveWhen::Over).await.unwrap_err();
    assert_eq!(error.to_string(), "job build is not over");
    assert_eq!(jobs.remove("build", RemoveWhen::Running).await.unwrap().state, JobState::Canceled);
    assert!(names(&server, "jobs").is_empty() && names(&server, "pods").is_empty());
    assert_eq!(
        jobs.remove("build", RemoveWhen::Always).await.unwrap_err().to_string(),
        "there is no job build in namespace builds"
    );

    run(&server, Wanted { detach: true, ..wanted("", JobBuild::default()) }, no_context()).await.1.unwrap();
    over(&server, "Complete", "CompletionsReached");
    assert_eq!(jobs.remove("build", RemoveWhen::Running).await.unwrap_err().to_string(), "job build is over");
    assert_eq!(jobs.remove("build", RemoveWhen::Over).await.unwrap().state, JobState::Succeeded);
}
