//! How Jobs end against an API server made for tests: in the cluster's words, at once where nothing helps, and with nothing left.

use std::time::Duration;

use buildfleet::backend::kubernetes::jobs::{JobBuild, JobEvent, JobFollow, JobState, RemoveWhen, Wanted};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::kubernetes_jobs::{
    container, end, exited, jobs, names, no_context, over, pod, preparing, run, until_watched, wanted,
};
use crate::support::api_server::ApiServer;

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
            let mut pod = pod(&status);
            if reason == "Unschedulable" {
                pod["spec"]["nodeName"] = Value::Null;
            }
            server.put("pods", pod);
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
