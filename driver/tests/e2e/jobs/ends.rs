//! Clients that go away and come back, by another daemon, too; Jobs that are canceled, take too long, or are over for long.

use buildfleet_proto::fleet::job_event::Event;
use buildfleet_proto::fleet::{JobSpec, JobState};

use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::jobs::{Jobs, directory, large};
use crate::support::scene::Scene;

#[test]
fn a_job_outlives_its_client_and_its_daemon_and_another_one_hears_all_of_it() {
    let scene = Scene::kube();
    let jobs = Jobs::of(&scene, scene.namespace().name());
    let slow = scene.contexts().slow("left", 12);
    let mut run = jobs.run(jobs.spec("left", ""), Some(directory(&slow)));
    run.says(BEGINS);
    drop(run);
    scene.kill_daemon();

    let other = Scene::beside(&scene);
    let jobs = Jobs::of(&other, scene.namespace().name());
    assert_eq!(jobs.list()[0].state(), JobState::JobRunning);
    let mut so_far = jobs.follow("left", false);
    so_far.says(BEGINS);
    let mut again = jobs.follow("left", true);
    let end = again.end();
    assert_eq!((end.exit_code, end.state()), (Some(0), JobState::JobSucceeded), "{end:?}");
    assert!(again.output().contains("load build definition") && again.output().contains(BEGINS));
    jobs.remove("left").expect("it is there");

    // One that is canceled is gone soon, whatever its build does.
    let slow = scene.contexts().slow("canceled", 300);
    let mut canceled = jobs.run(jobs.spec("canceled", ""), Some(directory(&slow)));
    canceled.says(BEGINS);
    jobs.remove("canceled").expect("it is there");
    let end = canceled.end();
    assert_eq!((end.exit_code, end.state()), (None, JobState::JobCanceled), "{end:?}");
    scene.namespace().empties();
}

#[test]
fn a_client_that_goes_before_its_context_is_there_takes_the_job_along() {
    let scene = Scene::kube();
    let jobs = Jobs::of(&scene, scene.namespace().name());
    let mut spec = jobs.spec("dropped", "");
    spec.secrets.insert("word".to_owned(), b"shibboleth".to_vec());
    // It is far from its end when the client goes.
    let client = Jobs::of(&scene, scene.namespace().name());
    let mut run = client.run(spec, Some(large("FROM scratch\n", 1 << 32)));
    run.until("the upload", |event| matches!(event, Event::Uploaded(1..)));
    drop(run);
    // With its connection, as that of a process that is killed.
    drop(client);
    // The cluster itself collects its Secret, a moment after the Job.
    let is_empty = || scene.namespace().objects().is_empty().then_some(());
    wait_for("the end of all that it had", seconds(45), is_empty);

    // Longer than it may take, and gone by itself when it is over.
    let slow = scene.contexts().slow("late", 300);
    let limits = JobSpec { timeout: 12, ttl: 2, ..jobs.spec("late", "") };
    let end = jobs.run(limits, Some(directory(&slow))).end();
    assert_eq!((end.exit_code, end.reason.as_str()), (None, "DeadlineExceeded"), "{end:?}");
    assert_eq!(end.detail, "it took longer than 12 s");
    wait_for("the end of all that it had", seconds(90), is_empty);
}

#[test]
fn a_context_of_1_gb_gets_there_without_being_held_in_memory() {
    let scene = Scene::kube();
    let jobs = Jobs::of(&scene, scene.namespace().name());
    let dockerfile = "FROM scratch\nCOPY Dockerfile /\n";
    let mut run = jobs.run(JobSpec { detach: false, ..jobs.spec("large", "") }, Some(large(dockerfile, 1 << 30)));
    let began = std::time::Instant::now();
    let end = run.end();
    println!("1 GB was built after {:?}: {}", began.elapsed(), run.news());
    assert_eq!(end.exit_code, Some(0), "{}", run.output());
    assert!(run.uploaded() > 1 << 30, "{}", run.uploaded());
    let pid = scene.daemon_pid().expect("the daemon runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("what it had at most");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    println!("the daemon had at most {peak} kB");
    assert!(peak < 200 * 1024, "{peak} kB");
    jobs.remove("large").expect("it is there");
    scene.namespace().empties();
}
