//! History: the records of all pods as one list, and each call about a build to the pod that has its record.

use std::time::{Duration, Instant};

use buildfleet::backend::PodPhase;
use buildfleet_proto::buildkit::*;
use tonic::{Code, Status, Streaming};

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::daemon::{Home, kubernetes};
use crate::support::front::{Front, eventually, solve};
use crate::support::rows::Rows;
use crate::support::user::connect;

const AT_ONCE: Duration = Duration::from_secs(2);

pub(crate) fn early() -> BuildHistoryRequest {
    BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() }
}

pub(crate) fn of(r#ref: &str) -> BuildHistoryRequest {
    BuildHistoryRequest { r#ref: r#ref.to_owned(), ..early() }
}

pub(crate) async fn listen(front: &Front, asked: BuildHistoryRequest) -> Streaming<BuildHistoryEvent> {
    front.client().await.listen_build_history(asked).await.unwrap().into_inner()
}

/// As `kind ref`.
pub(crate) fn words(event: &BuildHistoryEvent) -> String {
    let kind = match event.r#type() {
        BuildHistoryEventType::Started => "runs",
        BuildHistoryEventType::Complete => "built",
        BuildHistoryEventType::Deleted => "deleted",
    };
    format!("{kind} {}", event.record.as_ref().unwrap().r#ref)
}

/// What is told, and the warnings.
async fn history(front: &Front, asked: BuildHistoryRequest) -> Result<(Vec<String>, Vec<String>), Status> {
    let mut told = listen(front, asked).await;
    let mut events = Vec::new();
    while let Some(event) = told.message().await? {
        events.push(words(&event));
    }
    let trailers = told.trailers().await?.unwrap_or_default();
    let warnings = trailers.get_all("buildfleet-warning").iter().map(|it| it.to_str().unwrap().to_owned()).collect();
    Ok((events, warnings))
}

/// Without a warning.
pub(crate) async fn all(front: &Front, asked: BuildHistoryRequest) -> Vec<String> {
    let (events, warnings) = history(front, asked).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    events
}

pub(crate) async fn update(front: &Front, r#ref: &str, what: &str) -> Result<(), Status> {
    let asked = UpdateBuildHistoryRequest {
        r#ref: r#ref.to_owned(),
        pinned: what == "pin",
        delete: what == "delete",
        finalize: what == "finalize",
    };
    front.client().await.update_build_history(asked).await.map(drop)
}

async fn log(front: &Front, r#ref: &str) -> Result<Vec<StatusResponse>, Status> {
    let asked = StatusRequest { r#ref: r#ref.to_owned() };
    let mut told = front.client().await.status(asked).await?.into_inner();
    let mut all = Vec::new();
    while let Some(some) = told.message().await? {
        all.push(some);
    }
    Ok(all)
}

/// What a pod was asked, less what is not about `about`.
pub(crate) fn asked(pod: &FakeBuildkitd, about: &str) -> Vec<String> {
    let calls = pod.records.calls();
    calls.into_iter().filter(|call| call.ends_with(about)).collect()
}

#[tokio::test]
async fn the_records_of_all_pods_are_one_list_newest_first_and_limited_again() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    for (pod, name, ago) in [(&a, "r1", 50), (&b, "r2", 40), (&a, "r3", 30), (&b, "r4", 20), (&a, "r5", 10)] {
        pod.records.built(name, ago);
    }
    a.records.begins_ago("runs-a", 6);
    b.records.begins_ago("runs-b", 5);
    let wanted = ["runs runs-b", "runs runs-a", "built r5", "built r4", "built r3", "built r2", "built r1"];
    assert_eq!(all(&front, early()).await, wanted);
    for limit in 1..=6 {
        let told = all(&front, BuildHistoryRequest { limit, ..early() }).await;
        let wanted = &wanted[..wanted.len().min(2 + usize::try_from(limit).unwrap())];
        assert_eq!(told, wanted, "limit {limit}");
    }
    let active = BuildHistoryRequest { active_only: true, ..early() };
    assert_eq!(all(&front, active).await, ["runs runs-b", "runs runs-a"]);
    let filtered = BuildHistoryRequest { filter: vec!["ref==r4".into()], ..early() };
    assert_eq!(all(&front, filtered).await, ["runs runs-b", "runs runs-a", "built r4"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_question_is_told_in_a_pod_s_words() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
    for early_exit in [true, false] {
        for (wrong, told) in [
            (BuildHistoryRequest { filter: vec!["x(".into()], ..early() }, "failed to parse history filters x("),
            (BuildHistoryRequest { limit: -1, ..early() }, "invalid limit -1"),
        ] {
            let status = history(&front, BuildHistoryRequest { early_exit, ..wrong }).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::Unknown, told));
        }
    }
}

#[tokio::test]
async fn only_its_pod_is_asked_about_a_build_that_is_known_here() {
    let mut rows = Rows::default();
    rows.row("it ended here", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        let built = front.client().await.solve(solve("r1", "")).await.unwrap().into_inner();
        let (home, other) = if built.exporter_response["pod"] == "kube0-a" { (&a, &b) } else { (&b, &a) };
        assert_eq!(all(&front, of("r1")).await, ["built r1"]);
        update(&front, "r1", "finalize").await.unwrap();
        assert_eq!(home.records.record("r1").unwrap().generation, 1);
        log(&front, "r1").await.unwrap();
        assert_eq!(home.seen.statuses(), ["r1"]);
        assert_eq!(asked(home, "r1"), ["Listen r1", "Finalize r1"]);
        assert_eq!((asked(other, "r1").len(), other.seen.statuses().len()), (0, 0));
    });
    rows.row("it runs here", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        let mut client = front.client().await;
        let building = tokio::spawn(async move { client.solve(solve("r1", "hang")).await });
        eventually("the build", || a.records.runs("r1") || b.records.runs("r1")).await;
        let (home, other) = if a.records.runs("r1") { (&a, &b) } else { (&b, &a) };
        assert_eq!(all(&front, of("r1")).await, ["runs r1"]);
        assert_eq!((asked(home, "r1").len(), asked(other, "r1").len()), (1, 0));
        building.abort();
    });
    rows.row("it was in a list before", async {
        let front = Front::new();
        let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
        b.records.built("r1", 10);
        all(&front, early()).await;
        assert_eq!(all(&front, of("r1")).await, ["built r1"]);
        assert_eq!((asked(&a, "r1").len(), asked(&b, "r1").len()), (0, 1));
    });
    rows.pass().await;
}

#[tokio::test]
async fn a_build_that_is_not_known_here_is_looked_for_once() {
    let front = Front::new();
    let [a, b, c] = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
    b.records.built("r1", 10);
    c.records.begins("r2");
    for _ in 0..2 {
        assert_eq!(all(&front, of("r1")).await, ["built r1"]);
    }
    update(&front, "r1", "pin").await.unwrap();
    assert!(b.records.record("r1").unwrap().pinned);
    assert_eq!(asked(&b, "r1"), ["Listen ref==r1", "Listen r1", "Listen r1", "Pin r1"]);
    for pod in [&a, &c] {
        // The one that has it may answer before the others have heard the question, which is then taken back.
        let heard = asked(pod, "r1");
        assert!(heard.is_empty() || heard == ["Listen ref==r1"], "{}: {heard:?}", pod.name);
    }
    assert_eq!(all(&front, of("r2")).await, ["runs r2"]);
    assert_eq!(all(&front, of("r0")).await, [""; 0]);
    for pod in [&a, &b, &c] {
        assert_eq!(asked(pod, "r0"), ["Listen ref==r0"], "{}", pod.name);
    }
    // A ref that a filter would have to quote.
    a.records.built("r/3,\"", 10);
    assert_eq!(all(&front, of("r/3,\"")).await, ["built r/3,\""]);
}

#[tokio::test]
async fn a_record_that_its_pod_has_dropped_is_looked_for_elsewhere() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    a.records.built("r1", 10);
    assert_eq!(all(&front, of("r1")).await, ["built r1"]);
    a.records.forgets("r1");
    assert_eq!(all(&front, of("r1")).await, [""; 0]);
    b.records.built("r1", 5);
    assert_eq!(all(&front, of("r1")).await, ["built r1"]);
}

#[tokio::test]
async fn a_pod_that_does_not_answer_costs_a_moment_and_only_what_is_about_it_fails() {
    let front = Front::new();
    let [a, mut b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    a.records.built("r1", 10);
    b.records.built("r2", 5);
    assert_eq!(all(&front, early()).await, ["built r2", "built r1"]);
    b.freeze();
    let begun = Instant::now();
    let (events, warnings) = history(&front, early()).await.unwrap();
    assert_eq!(events, ["built r1"]);
    assert_eq!(warnings, ["pod kube0-b did not answer within 5 s"]);
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());

    // What is on the other pod is as fast as ever.
    let begun = Instant::now();
    assert_eq!(all(&front, of("r1")).await, ["built r1"]);
    update(&front, "r1", "finalize").await.unwrap();
    // This is what buildx asks after each build.
    let probe = BuildHistoryRequest { active_only: true, ..of("buildx-test-history-api-feature") };
    assert_eq!(all(&front, probe).await, [""; 0]);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());

    let status = history(&front, of("r2")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "pod kube0-b did not answer within 5 s"));
    // Whether it is there cannot be known, and to say that it was finalised would be a guess.
    let status = update(&front, "r3", "finalize").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("no record of build r3 was found, but pod kube0-b"), "{}", status.message());
}

#[tokio::test]
async fn a_record_on_a_pod_that_is_away_is_told_to_be_there() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    b.records.built("r2", 5);
    all(&front, early()).await;
    b.kill().await;
    front.pods.set("kube0-b", PodPhase::Failed, &[]);
    front.fleet.watch().wait_for(|snapshot| snapshot.ready == 1).await.map(drop).unwrap();
    for status in [
        history(&front, of("r2")).await.unwrap_err(),
        update(&front, "r2", "delete").await.unwrap_err(),
        update(&front, "r2", "finalize").await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().starts_with("pod kube0-b cannot be reached: "), "{}", status.message());
    }
    // Once it is gone for good, so is its history.
    front.pods.end("kube0-b", "deleted");
    eventually("its end", || front.fleet.watch().borrow().pods.len() == 1).await;
    assert_eq!(all(&front, of("r2")).await, [""; 0]);
    update(&front, "r2", "finalize").await.unwrap();
    assert_eq!(update(&front, "r2", "delete").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(asked(&a, "r2").last().unwrap(), "Delete r2");
}

#[tokio::test]
async fn what_nobody_knows_is_answered_as_one_buildkitd_does() {
    let mut rows = Rows::default();
    for (what, wanted) in [
        ("finalize", None),
        ("delete", Some((Code::NotFound, "lease \"ref_rx\": not found"))),
        ("pin", Some((Code::Unknown, "failed to retrieve ref rx: file does not exist"))),
    ] {
        rows.row(format!("{what} with pods"), async move {
            let front = Front::new();
            let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
            let status = update(&front, "rx", what).await.err();
            assert_eq!(status.as_ref().map(|it| (it.code(), it.message())), wanted);
        });
        rows.row(format!("{what} without"), async move {
            let front = Front::new();
            let status = update(&front, "rx", what).await.err();
            assert_eq!(status.map(|it| it.code()), wanted.map(|_| Code::NotFound));
            assert_eq!(front.pods.orders(), [0_u32; 0]);
        });
    }
    rows.row("its log with pods", async {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
        assert_eq!(log(&front, "rx").await.unwrap_err().message(), "no such job rx");
    });
    rows.row("its log without", async {
        let front = Front::new();
        assert_eq!(log(&front, "rx").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(front.pods.orders(), [0_u32; 0]);
    });
    rows.pass().await;
}

#[tokio::test]
async fn a_deleted_record_is_deleted_where_it_is_and_forgotten() {
    let front = Front::new();
    let [a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    b.records.built("r1", 5);
    update(&front, "r1", "delete").await.unwrap();
    assert!(b.records.record("r1").is_none(), "it is only hidden");
    assert_eq!(all(&front, early()).await, [""; 0]);
    assert_eq!(update(&front, "r1", "delete").await.unwrap_err().code(), Code::NotFound);
    // It is not believed to be there still, but looked for, and then asked of anyone. The first search
    // ends with the pod that has it: the other one may not have read the question by then.
    assert_eq!(asked(&a, "r1").last_chunk().unwrap(), &["Listen ref==r1", "Delete r1"]);
    assert_eq!(asked(&b, "r1"), ["Listen ref==r1", "Delete r1", "Listen ref==r1"]);
}

#[tokio::test]
async fn the_log_of_a_build_of_another_daemon_is_found() {
    let front = Front::new();
    let [_a, b] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let mut other = connect(&b.socket).await;
    other.solve(solve("r1", "log:3")).await.unwrap();
    let begun = Instant::now();
    assert!(!log(&front, "r1").await.unwrap().is_empty());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_answer_begins_before_any_pod_has_said_anything() {
    let front = Front::new();
    let [mut a] = front.ready_pods(["kube0-a"]).await;
    a.freeze();
    for asked in [early(), BuildHistoryRequest::default(), of("r1")] {
        let begun = Instant::now();
        let answer = front.client().await.listen_build_history(asked).await.unwrap();
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        let now = answer.metadata().get("buildkit-current-timestamp").unwrap().to_str().unwrap();
        assert!(now.starts_with("20") && now.ends_with('Z'), "{now}");
    }
}

#[tokio::test]
async fn which_pod_built_what_is_written_down_while_the_daemon_runs_and_known_to_the_next_one() {
    let home = Home::new();
    let pods = ["kube0-a", "kube0-b"].map(|name| FakeBuildkitd::start(name, home.path()));
    let mut daemon = home.start().await;
    let socket = daemon.create(kubernetes("kube")).await.unwrap().builder.unwrap().nodes[0].socket.clone();
    for pod in &pods {
        home.backends.node("kube0").pods.run(&pod.name, &pod.socket);
    }
    let socket = std::path::Path::new(&socket);
    let mut client = connect(socket).await;
    let built = client.solve(solve("r1", "")).await.unwrap().into_inner();
    let file = home.path().join("state/nodes/kube0.json");
    let written = |text: &str| std::fs::read_to_string(&file).is_ok_and(|all| all.contains(text));
    eventually("what a killed daemon would leave", || written("\"r1\"")).await;
    // A second one right after is not lost, though it waits for its turn.
    client.solve(solve("r2", "")).await.unwrap();
    eventually("what a killed daemon would leave", || written("\"r2\"")).await;
    drop(client);
    daemon.end().await;

    let daemon = home.start().await;
    let mut told = connect(socket).await.listen_build_history(of("r1")).await.unwrap().into_inner();
    assert_eq!(words(&told.message().await.unwrap().unwrap()), "built r1");
    for pod in &pods {
        let wanted = usize::from(built.exporter_response["pod"] == pod.name);
        assert_eq!(asked(pod, "r1").len(), wanted, "{}", pod.name);
    }
    drop(told);
    daemon.end().await;
}
