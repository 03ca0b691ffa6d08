//! A pod that ends with what cannot be begun anew: the client hears which pod and why, in time, and nothing happens twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::frontend::EvaluateRequest;
use tonic::{Code, Status};

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;
use crate::support::user::build::Built;
use crate::support::user::plan::Plan;

/// The pods, the one with the build apart.
async fn with_the_build(mut pods: Vec<FakeBuildkitd>) -> (FakeBuildkitd, Vec<FakeBuildkitd>) {
    eventually("the build", || pods.iter().any(|pod| !pod.seen.refs().is_empty())).await;
    let place = pods.iter().position(|pod| !pod.seen.refs().is_empty()).unwrap();
    (pods.remove(place), pods)
}

fn is_told(status: &Status, pod: &str, reason: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let text = status.message();
    assert!(text.contains(&format!("pod {pod} has ended: {reason}")), "{text}");
}

/// What a client did that no other pod can know.
#[derive(Debug, Clone, Copy)]
enum Deed {
    ReadFile,
    ReadDir,
    StatFile,
    NewContainer,
}

#[tokio::test]
async fn a_build_of_which_its_client_knows_too_much_fails_with_its_pod() {
    let mut rows = Rows::default();
    for deed in [Deed::ReadFile, Deed::ReadDir, Deed::StatFile, Deed::NewContainer] {
        rows.row(format!("{deed:?}"), async move {
            let front = Front::new();
            let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b"]).await);
            let user = front.user().await;
            let build = user.begin(Plan::new("r1").builds("hang"));
            build.ping().await.unwrap();
            let made = build.make().await.unwrap();
            let (victim, others) = with_the_build(pods).await;
            // Some of these need the result evaluated, which hangs.
            let method = format!("{deed:?}");
            let request = EvaluateRequest { r#ref: made.handles[0].clone() };
            let calling = user.bridge("r1", &method, &request);
            let called = eventually("the call", || victim.seen.bridge("r1").contains(&method));
            tokio::select! {
                answered = calling => drop(answered.unwrap()),
                () = called => {}
            }
            let (name, begun) = (victim.name.clone(), Instant::now());
            front.ends(victim, "OOMKilled");
            let built = build.end(Ok(())).await;
            is_told(built.error(), &name, "OOMKilled");
            assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
            assert!(others[0].seen.refs().is_empty(), "it was begun anew");
        });
    }
    rows.pass().await;
}

/// Runs a build on two pods, of which the first ends where the build says so.
async fn is_doomed(front: &Front, plan: Plan, reason: &str) -> (Built, String, Vec<FakeBuildkitd>, Duration) {
    let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b"]).await);
    let user = front.user().await;
    let build = user.begin(plan.clone());
    let given = Arc::clone(&build.session.as_ref().unwrap().given);
    let build = tokio::spawn(build.finish());
    let (victim, others) = with_the_build(pods).await;
    victim.doomed.cancelled().await;
    if !plan.exporters.is_empty() {
        eventually("a part of the export", || given.export("0") > 0).await;
    }
    let (name, begun) = (victim.name.clone(), Instant::now());
    front.ends(victim, reason);
    let built = build.await.unwrap();
    (built, name, others, begun.elapsed())
}

#[tokio::test]
async fn an_export_that_was_delivered_in_part_is_not_delivered_again() {
    let mut rows = Rows::default();
    for direct in [false, true] {
        rows.row(format!("direct: {direct}"), async move {
            let front = Front::new();
            let attrs = [("bytes", "33554432"), ("doom-after", "1048576")];
            let plan = Plan { direct, ..Plan::new("r1").does("context").exporter("tar", &attrs) };
            let (built, victim, others, took) = is_doomed(&front, plan, "Evicted").await;
            is_told(built.error(), &victim, "Evicted");
            assert!(built.error().message().contains("export"), "{:?}", built.error());
            let export = built.given.export("0");
            // What the pod sent last may have been lost with it, on the way to the user.
            assert!(export < 32 << 20, "{export} bytes of the export came");
            assert!(took < Duration::from_secs(6), "{took:?}");
            assert!(others[0].seen.refs().is_empty(), "it was begun anew");
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn without_retries_a_build_fails_with_its_pod() {
    let mut rows = Rows::default();
    for (name, plan) in [
        ("driven, in the frontend", Plan::new("r1").does("doom")),
        ("driven, in the evaluation", Plan::new("r1").builds("doom")),
        ("direct", Plan::new("r1").directly().does("doom")),
    ] {
        rows.row(name, async move {
            let front = Front::without_retries();
            let (built, victim, others, took) = is_doomed(&front, plan, "OOMKilled").await;
            is_told(built.error(), &victim, "OOMKilled");
            assert!(took < Duration::from_secs(6), "{took:?}");
            assert!(others[0].seen.refs().is_empty(), "it was begun anew");
            assert!(matches!(built.status, Some(Err(_))), "{built:#?}");
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_build_whose_pods_are_all_gone_fails_when_none_comes_in_time() {
    let mut rows = Rows::default();
    for direct in [false, true] {
        rows.row(format!("direct: {direct}"), async move {
            let front = Front::with_timeout(Duration::from_secs(2));
            let [pod] = front.ready_pods(["kube0-a"]).await;
            let user = front.user().await;
            let plan = Plan { direct, ..Plan::new("r1").does("hang") };
            let build = tokio::spawn(async move { user.build(plan).await });
            eventually("the build", || pod.seen.refs() == ["r1"]).await;
            let begun = Instant::now();
            front.ends(pod, "node lost");
            let built = build.await.unwrap();
            assert_eq!(built.error().code(), Code::Unavailable);
            assert!(built.error().message().contains("0 of 1 pods ready"), "{:?}", built.error());
            let took = begun.elapsed();
            assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(9), "{took:?}");
            let logs = built.watched.logs();
            assert!(logs.contains("node lost"), "{logs}");
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_build_that_ends_every_pod_is_given_up() {
    let mut rows = Rows::default();
    for (name, plan) in [
        ("driven, in the frontend", Plan::new("r1").does("doom")),
        ("driven, in the evaluation", Plan::new("r1").builds("doom")),
        ("direct", Plan::new("r1").directly().does("doom")),
    ] {
        rows.row(name, async move {
            let front = Front::new();
            let names = ["kube0-a", "kube0-b", "kube0-c", "kube0-d", "kube0-e", "kube0-f", "kube0-g", "kube0-h"];
            let mut pods = Vec::from(front.ready_pods(names).await);
            let seen: Vec<_> = pods.iter().map(|pod| Arc::clone(&pod.seen)).collect();
            let user = front.user().await;
            let build = tokio::spawn(async move { user.build(plan).await });
            let mut last = String::new();
            while !build.is_finished() {
                if let Some(place) = pods.iter().position(|pod| pod.doomed.is_cancelled()) {
                    let pod = pods.remove(place);
                    last.clone_from(&pod.name);
                    front.ends(pod, "exit code 2");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let built = build.await.unwrap();
            let status = built.error();
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().contains(&format!("pod {last} has ended: exit code 2")), "{status:?}");
            let tries: usize = seen.iter().map(|seen| seen.refs().len()).sum();
            assert!((2..=4).contains(&tries), "{tries} pods were ended by one build");
            assert!(seen.iter().all(|seen| seen.refs().len() <= 1), "a try on a pod that had failed");
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_build_whose_pods_end_while_it_is_repeated_is_given_up() {
    let front = Front::new();
    let names = ["kube0-a", "kube0-b", "kube0-c", "kube0-d", "kube0-e", "kube0-f", "kube0-g", "kube0-h"];
    let mut pods = Vec::from(front.ready_pods(names).await);
    let seen: Vec<_> = pods.iter().map(|pod| Arc::clone(&pod.seen)).collect();
    let user = front.user().await;
    let build = user.begin(Plan::new("r1").does("sleep:400"));
    build.ping().await.unwrap();
    let made = build.make().await.unwrap();
    let ending = async {
        loop {
            let repeats = |pod: &FakeBuildkitd| pod.seen.bridge("r1").contains(&"Solve".to_owned());
            if let Some(place) = pods.iter().position(repeats) {
                front.ends(pods.remove(place), "Evicted");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = tokio::select! {
        returned = build.give_back(&made) => returned.unwrap_err(),
        () = ending => unreachable!(),
    };
    let told = ["has ended: Evicted", "the build was tried 4 times"];
    assert!(told.iter().all(|words| status.message().contains(words)), "{status:?}");
    let built = build.end(Err(status.clone())).await;
    assert_eq!(built.error().message(), status.message());
    let tries: usize = seen.iter().map(|seen| seen.refs().len()).sum();
    assert_eq!(tries, 4);
}
