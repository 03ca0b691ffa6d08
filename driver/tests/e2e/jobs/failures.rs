//! Jobs that fail or never start: a clear word of why, and nothing that stays behind.

use std::time::Instant;

use buildfleet_proto::fleet::{JobSpec, JobState};

use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::jobs::{Jobs, directory};
use crate::support::scene::Scene;
use crate::support::tools::cluster;

#[test]
fn a_job_that_cannot_start_fails_with_the_clusters_words_and_is_gone() {
    let scene = Scene::kube();
    let jobs = Jobs::of(&scene, scene.namespace().name());
    let context = scene.contexts().with("never", "");
    let image = format!("{}/nobody/nothing:1", cluster().registry);
    let spec = |name: &str, opts: &str| JobSpec { driver_opt: vec![opts.to_owned()], ..jobs.spec(name, "") };
    let began = Instant::now();
    let mut no_image = jobs.run(spec("no-image", &format!("image={image},timeout=10m")), Some(directory(&context)));
    let mut nowhere = jobs.run(spec("nowhere", "nodeselector=disk=none,timeout=4s"), Some(directory(&context)));

    let end = nowhere.end();
    assert_eq!((end.exit_code, end.state(), end.reason.as_str()), (None, JobState::JobFailed, "Unschedulable"));
    assert!(end.detail.contains("cannot be scheduled: 0/2 nodes are available"), "{end:?}");
    let end = no_image.end();
    assert_eq!((end.exit_code, end.state()), (None, JobState::JobFailed), "{end:?}");
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&end.reason.as_str()), "{end:?}");
    assert!(
        end.detail.contains(&format!("cannot pull image {image}: ")) && end.detail.contains("not found"),
        "{end:?}"
    );
    // At once, and not at its timeout.
    assert!(began.elapsed() < seconds(90), "{:?}", began.elapsed());

    // Nor is anything left of one that no pod may be made for.
    let label = "pod-security.kubernetes.io/enforce=restricted";
    scene.namespace().kubectl("label namespace").arg(scene.namespace().name()).arg(label).succeeds();
    let mut forbidden = jobs.run(spec("forbidden", "timeout=10m"), Some(directory(&context)));
    let end = forbidden.end();
    assert_eq!((end.state(), end.reason.as_str()), (JobState::JobFailed, "FailedCreate"), "{end:?}");
    assert!(end.detail.contains("violates PodSecurity \"restricted"), "{end:?}");
    scene.namespace().empties();
}

#[test]
fn a_wrong_dockerfile_is_the_builds_own_failure_and_an_evicted_pod_is_not() {
    let scene = Scene::kube();
    let jobs = Jobs::of(&scene, scene.namespace().name());
    let wrong = scene.contexts().with("wrong", "RUN false\n");
    let slow = scene.contexts().slow("evicted", 120);
    let mut fails = jobs.run(jobs.spec("wrong", ""), Some(directory(&wrong)));
    let mut evicted = jobs.run(jobs.spec("evicted", ""), Some(directory(&slow)));
    // One that is there already is not made again.
    fails.job();
    let twice = jobs.run(jobs.spec("wrong", ""), Some(directory(&wrong))).fails();
    assert_eq!(twice.code(), tonic::Code::AlreadyExists, "{twice:?}");

    let end = fails.end();
    assert_eq!((end.exit_code, end.state(), end.reason.as_str()), (Some(1), JobState::JobFailed, "exit code 1"));
    assert!(fails.output().contains("RUN false"), "{}", fails.output());

    evicted.says(BEGINS);
    let pod = wait_for("the pod", seconds(10), || {
        scene.namespace().pods().into_iter().find(|pod| pod.starts_with("evicted-"))
    });
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod },
    });
    let file = scene.path("eviction.json");
    std::fs::write(&file, eviction.to_string()).expect("a file of our own");
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", scene.namespace().name());
    scene.namespace().kubectl("create --raw").arg(path).arg("-f").arg(&file).succeeds();
    let end = evicted.end();
    assert_eq!((end.exit_code, end.state(), end.reason.as_str()), (None, JobState::JobFailed, "Evicted"), "{end:?}");

    let mut jobs_seen: Vec<(String, String)> = jobs.list().into_iter().map(|job| (job.name, job.reason)).collect();
    jobs_seen.sort();
    assert_eq!(jobs_seen[1], ("wrong".to_owned(), "exit code 1".to_owned()));
    for name in ["wrong", "evicted"] {
        jobs.remove(name).expect("it is there");
    }
    let missing = jobs.remove("wrong-name").unwrap_err();
    assert!(missing.message().starts_with("there is no job wrong-name in namespace "), "{missing:?}");
    scene.namespace().empties();
}
