//! Pods as the API server tells of them, and what users read.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::*;
use crate::manifest::Workload;

const IMAGE: &str = "moby/buildkit:buildx-stable-1";

/// A pod on a machine, or on none yet.
fn pod(node: Option<&str>, status: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "kube0-1", "namespace": "builds"},
        "spec": {
            "nodeName": node,
            "initContainers": [{"name": "qemu", "image": "tonistiigi/binfmt"}],
            "containers": [{"name": "buildkitd", "image": IMAGE}],
        },
    });
    pod["status"] = status;
    serde_json::from_value(pod).unwrap()
}

fn deleted(mut pod: Pod) -> Pod {
    let now = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    pod.metadata.deletion_timestamp = Some(now);
    pod
}

/// A status with one `buildkitd` in `state`, which was restarted `restarts` times after `last`.
fn main_status(phase: &str, state: &Value, last: &Value, restarts: i32) -> Value {
    json!({"phase": phase, "containerStatuses": [
        {"name": "buildkitd", "image": "x", "imageID": "", "ready": false, "restartCount": restarts,
         "state": state, "lastState": last},
    ]})
}

fn qemu_status(state: &Value) -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "qemu", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state},
    ], "containerStatuses": [
        {"name": "buildkitd", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"waiting": {"reason": "PodInitializing"}}},
    ]})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}})
}

fn terminated(reason: &str, code: i32) -> Value {
    json!({"terminated": {"reason": reason, "exitCode": code}})
}

fn event(reason: &str, message: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": {"name": format!("kube0-1.{reason}"), "namespace": "builds"},
        "involvedObject": {"kind": "Pod", "name": "kube0-1"}, "reason": reason, "message": message,
    }))
    .unwrap()
}

/// Lines of text, with `!` before trouble.
fn told(pod: &Pod, events: &[Event], crash_log: Option<&str>) -> Vec<String> {
    let events: Vec<&Event> = events.iter().collect();
    let lines = story(Seen { pod, events: &events, crash_log });
    lines.into_iter().map(|line| format!("{}{}", if line.trouble { "! " } else { "" }, line.text)).collect()
}

#[test]
fn the_way_to_a_running_pod_is_told() {
    let unscheduled = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available.",
    }]});
    let gated = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "quota.example.com",
    }]});
    let creating = main_status("Pending", &waiting("ContainerCreating", ""), &json!({}), 0);
    let runs = main_status("Running", &running(), &json!({}), 0);
    let pulling = || event("Pulling", &format!("Pulling image \"{IMAGE}\""));
    let pulled =
        || event("Pulled", &format!("Successfully pulled image \"{IMAGE}\" in 3.25s (3.3s including waiting)"));
    for (pod, events, expected) in [
        (pod(None, json!({"phase": "Pending"})), vec![], vec![]),
        (
            pod(None, unscheduled.clone()),
            vec![],
            vec!["! cannot be scheduled: 0/2 nodes are available: 2 Insufficient cpu"],
        ),
        (
            pod(None, unscheduled),
            vec![event("TriggeredScaleUp", "pod triggered scale-up: [{pool 1->2 (max: 3)}]")],
            vec![
                "! cannot be scheduled: 0/2 nodes are available: 2 Insufficient cpu",
                "a machine is being added: pod triggered scale-up: [{pool 1->2 (max: 3)}]",
            ],
        ),
        (pod(None, gated), vec![], vec!["held back by a scheduling gate: quota.example.com"]),
        (pod(Some("n1"), json!({"phase": "Pending"})), vec![], vec!["scheduled on n1"]),
        (
            pod(Some("n1"), creating.clone()),
            vec![pulling()],
            vec!["scheduled on n1", &format!("pulling image {IMAGE}")],
        ),
        (
            pod(Some("n1"), creating.clone()),
            vec![event(
                "FailedMount",
                "MountVolume.SetUp failed for volume \"certs\" : secret \"kube0-tls\" not found",
            )],
            vec![
                "scheduled on n1",
                "! cannot mount a volume: MountVolume.SetUp failed for volume \"certs\" : secret \"kube0-tls\" not found",
            ],
        ),
        (
            pod(Some("n1"), creating.clone()),
            vec![event(
                "FailedMount",
                "MountVolume.SetUp failed for volume \"certs\" : failed to sync secret cache: timed out",
            )],
            vec!["scheduled on n1"],
        ),
        (
            pod(Some("n1"), creating),
            vec![event("FailedCreatePodSandBox", "Failed: rpc error: code = Unknown desc = no IP addresses available")],
            vec!["scheduled on n1", "! cannot prepare the pod: no IP addresses available"],
        ),
        (
            pod(Some("n1"), runs.clone()),
            vec![pulling(), pulled()],
            vec![
                "scheduled on n1",
                &format!("pulling image {IMAGE}"),
                &format!("pulled image {IMAGE} in 3.2s"),
                "started buildkitd",
            ],
        ),
        (
            pod(Some("n1"), runs),
            vec![event("FailedMount", "is long over")],
            vec!["scheduled on n1", "started buildkitd"],
        ),
    ] {
        assert_eq!(told(&pod, &events, None), expected);
    }
}

#[test]
fn the_init_container_is_told() {
    for (state, expected) in [
        (waiting("PodInitializing", ""), vec!["scheduled on n1"]),
        (running(), vec!["scheduled on n1", "init container qemu runs"]),
        (terminated("Completed", 0), vec!["scheduled on n1", "init container qemu is done"]),
        (
            terminated("Error", 1),
            vec!["scheduled on n1", "! init container qemu ended: exit code 1", "! qemu: no privileges"],
        ),
        (
            waiting("ErrImagePull", "failed to pull and unpack image \"x\": no basic auth credentials"),
            vec!["scheduled on n1", "! cannot pull image tonistiigi/binfmt: no basic auth credentials"],
        ),
    ] {
        assert_eq!(told(&pod(Some("n1"), qemu_status(&state)), &[], Some("no privileges\n")), expected, "{state}");
    }
}

#[test]
fn the_same_failed_pull_is_told_alike_while_it_is_tried_and_while_there_is_a_pause() {
    let cause = "rpc error: code = NotFound desc = failed to pull and unpack image \"a\": no such manifest";
    let expected = vec!["scheduled on n1".to_owned(), format!("! cannot pull image {IMAGE}: no such manifest")];
    let failed = event("Failed", &format!("Failed to pull image \"{IMAGE}\": {cause}"));
    for (reason, message, events) in [
        ("ErrImagePull", cause.to_owned(), vec![]),
        ("ImagePullBackOff", format!("Back-off pulling image \"{IMAGE}\": ErrImagePull: {cause}"), vec![]),
        (
            "ImagePullBackOff",
            format!("Back-off pulling image \"{IMAGE}\""),
            vec![failed, event("Failed", "Error: ErrImagePull")],
        ),
    ] {
        let pod = pod(Some("n1"), main_status("Pending", &waiting(reason, &message), &json!({}), 0));
        assert_eq!(told(&pod, &events, None), expected, "{reason} {message}");
        assert_eq!(phase(&pod), PodPhase::Pending);
    }
}

#[test]
fn crashes_are_told_with_their_last_lines() {
    let log = Some("one\n\nbuildkitd: invalid config\n");
    let lines = ["! buildkitd: one", "! buildkitd: buildkitd: invalid config"];
    for (state, last, restarts, first, after) in [
        (terminated("Error", 1), json!({}), 0, "! buildkitd ended: exit code 1", None),
        (
            waiting("CrashLoopBackOff", "back-off 10s"),
            terminated("Error", 1),
            3,
            "! buildkitd ended: exit code 1 (restart 3)",
            None,
        ),
        (running(), terminated("OOMKilled", 137), 1, "! buildkitd ended: OOMKilled", Some("started buildkitd again")),
        (waiting("CrashLoopBackOff", ""), terminated("Completed", 0), 1, "! buildkitd ended: exit code 0", None),
        (
            terminated("ContainerCannotRun", 128),
            json!({}),
            0,
            "! buildkitd ended: ContainerCannotRun (exit code 128)",
            None,
        ),
    ] {
        let pod = pod(Some("n1"), main_status("Running", &state, &last, restarts));
        let expected = ["scheduled on n1", first].into_iter().chain(lines).chain(after).collect::<Vec<_>>();
        assert_eq!(told(&pod, &[], log), expected, "{state} {last}");
    }
    let refused = waiting("CreateContainerError", "failed to create containerd task: no such cgroup");
    let pod = pod(Some("n1"), main_status("Pending", &refused, &json!({}), 0));
    let expected =
        ["scheduled on n1", "! cannot start container buildkitd: failed to create containerd task: no such cgroup"];
    assert_eq!(told(&pod, &[], None), expected);
}

#[test]
fn the_end_of_a_pod_is_told() {
    let runs = || main_status("Running", &running(), &json!({}), 0);
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    let mut disrupted = runs();
    disrupted["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting"}]);
    let mut cut_off = runs();
    cut_off["conditions"] =
        json!([{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]);
    for (pod, last) in [
        (deleted(pod(Some("n1"), runs())), "is being deleted"),
        (pod(Some("n1"), evicted), "! Evicted: The node was low on resource: memory."),
        (deleted(pod(Some("n1"), disrupted)), "! Evicted: Eviction API: evicting"),
        (pod(Some("n1"), cut_off), "! n1 does not answer the API server any more"),
    ] {
        assert_eq!(told(&pod, &[], None).last().map(String::as_str), Some(last));
    }
}

#[test]
fn phases_follow_the_container() {
    let main = |phase: &str, state: Value, last: Value| pod(Some("n1"), main_status(phase, &state, &last, 1));
    for (pod, expected) in [
        (pod(None, json!({"phase": "Pending"})), PodPhase::Pending),
        (main("Pending", waiting("ContainerCreating", ""), json!({})), PodPhase::Pending),
        (main("Running", running(), json!({})), PodPhase::Running),
        (main("Running", running(), terminated("Error", 1)), PodPhase::Running),
        (main("Running", terminated("Error", 1), json!({})), PodPhase::Failed),
        (main("Running", waiting("CrashLoopBackOff", ""), terminated("Error", 1)), PodPhase::Failed),
        (pod(Some("n1"), json!({"phase": "Failed", "reason": "Evicted"})), PodPhase::Failed),
        (deleted(main("Running", running(), json!({}))), PodPhase::Terminating),
    ] {
        assert_eq!(phase(&pod), expected, "{:?}", pod.status);
    }
    assert_eq!(incarnation(&main("Running", running(), json!({}))), 1);
    assert_eq!(incarnation(&pod(None, json!({}))), 0);
    let started = started(&main("Running", running(), json!({}))).unwrap();
    assert_eq!(started, SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_605));
}

#[test]
fn ends_have_a_reason() {
    let main = |state: Value, last: Value| pod(Some("n1"), main_status("Running", &state, &last, 1));
    let disrupted = |reason: &str| {
        let condition = json!([{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why"}]);
        deleted(pod(Some("n1"), json!({"phase": "Running", "conditions": condition})))
    };
    for (pod, log, expected) in [
        (main(running(), terminated("OOMKilled", 137)), Some("last line\n"), "OOMKilled"),
        (main(running(), terminated("Error", 1)), Some("last line\n"), "exit code 1: last line"),
        (main(terminated("Error", 1), json!({})), None, "exit code 1"),
        (main(terminated("Error", 2), json!({})), Some(" \n"), "exit code 2"),
        (deleted(main(terminated("Error", 143), json!({}))), Some("x"), "deleted"),
        (deleted(main(terminated("OOMKilled", 137), json!({}))), None, "OOMKilled"),
        (
            pod(Some("n1"), json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk"})),
            None,
            "Evicted: low on disk",
        ),
        (disrupted("PreemptionByScheduler"), None, "preempted: why"),
        (disrupted("DeletionByTaintManager"), None, "Evicted: why"),
        (disrupted("DeletionByPodGC"), None, "node lost: why"),
    ] {
        assert_eq!(end_of_vanished(&pod, log).to_string(), expected, "{:?}", pod.status);
    }
    assert_eq!(end_of_vanished(&main(running(), json!({})), None).to_string(), "deleted");
}

#[test]
fn a_pod_that_never_ended_has_no_last_end() {
    assert_eq!(last_end(&pod(Some("n1"), main_status("Running", &running(), &json!({}), 0)), None), None);
    assert_eq!(last_end(&deleted(pod(Some("n1"), main_status("Running", &running(), &json!({}), 0))), None), None);
    assert_eq!(last_end(&pod(None, json!({"phase": "Pending"})), None), None);
    let crashed = pod(Some("n1"), main_status("Running", &running(), &terminated("Error", 1), 1));
    assert_eq!(last_end(&crashed, None).map(|end| end.reason).as_deref(), Some("exit code 1"));
}

#[test]
fn the_output_to_read_is_that_of_the_container_which_failed() {
    let crash_of = |status| crash(&pod(Some("n1"), status));
    let expected =
        |container: &str, restarts, previous| Some(Crash { container: container.to_owned(), restarts, previous });
    assert_eq!(crash_of(main_status("Running", &running(), &json!({}), 0)), None);
    assert_eq!(
        crash_of(main_status("Running", &terminated("Error", 1), &json!({}), 0)),
        expected("buildkitd", 0, false)
    );
    assert_eq!(
        crash_of(main_status("Running", &running(), &terminated("Error", 1), 2)),
        expected("buildkitd", 2, true)
    );
    assert_eq!(crash_of(qemu_status(&terminated("Error", 1))), expected("qemu", 0, false));
    assert_eq!(crash_of(qemu_status(&terminated("Completed", 0))), None);
}

#[test]
fn a_deployment_whose_pods_are_refused_says_why() {
    let with = |status: &str, kind: &str| -> Workload {
        let deployment = serde_json::from_value(json!({"metadata": {}, "status": {"conditions": [{
            "type": kind, "status": status, "reason": "FailedCreate",
            "message": "pods \"kube0-1\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3",
        }]}}));
        Workload::Deployment(deployment.unwrap())
    };
    let notes = node_notes(&with("True", "ReplicaFailure"));
    assert_eq!(
        notes,
        [StoryLine::trouble(
            "pods cannot be created: pods \"kube0-1\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, \
             limited: pods=3"
        )]
    );
    assert_eq!(node_notes(&with("False", "ReplicaFailure")), []);
    assert_eq!(node_notes(&with("True", "Available")), []);
    assert_eq!(node_notes(&Workload::Deployment(Deployment::default())), []);
}
