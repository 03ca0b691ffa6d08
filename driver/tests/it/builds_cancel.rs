//! Whoever leaves, and whenever: the pod hears of it at once, nothing is left behind, and nothing is begun anew.

use std::time::Duration;

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::buildkitd::seen::End;
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;
use crate::support::user::offer::Offer;
use crate::support::user::plan::Plan;

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It cancels Solve, and ends the rest itself.
    Cancels,
    /// Its process is killed.
    IsCut,
}

/// How far a build is when its client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Solve has come and nothing says what to build.
    Held,
    Frontend,
    FrontendReads,
    Evaluated,
    Exports,
    Direct,
}

impl Stage {
    fn plan(self) -> Plan {
        let plan = Plan::new("r1");
        match self {
            Self::Held => plan,
            Self::Frontend => plan.does("hang"),
            Self::FrontendReads => plan.does("stall").offers(|offer| offer.with_context(64 << 20)),
            Self::Evaluated => plan.builds("hang"),
            Self::Exports => plan.exports(64 << 20).offers(|offer| Offer { takes_exports: false, ..offer }),
            Self::Direct => plan.directly().does("hang"),
        }
    }

    fn is_reached(self, pods: &[FakeBuildkitd]) -> bool {
        pods.iter().any(|pod| match self {
            Self::Held => true,
            Self::Frontend | Self::Direct => !pod.seen.refs().is_empty(),
            Self::FrontendReads => !pod.seen.bridge("r1").is_empty(),
            Self::Evaluated | Self::Exports => pod.seen.bridge("r1").last().is_some_and(|method| method == "Return"),
        })
    }
}

async fn leaves(stage: Stage, leave: Leave) {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let user = front.user().await;
    let build = user.begin(stage.plan());
    let driving = async {
        if stage == Stage::Held || stage == Stage::Direct {
            return std::future::pending().await;
        }
        build.ping().await?;
        let made = build.make().await?;
        build.give_back(&made).await?;
        std::future::pending::<Result<(), tonic::Status>>().await
    };
    let leaving = async {
        eventually("the stage", || stage.is_reached(&pods)).await;
        // The stage has begun, or goes on to begin: a client leaves at no special moment.
        tokio::time::sleep(Duration::from_millis(200)).await;
        match leave {
            Leave::Cancels => build.cancel_solve(),
            Leave::IsCut => user.cut(),
        }
        let over = || pods.iter().all(|pod| pod.seen.end("r1").is_some() || pod.seen.refs().is_empty());
        eventually("the end of Solve on the pod", over).await;
    };
    tokio::select! {
        ended = driving => assert!(ended.is_err(), "{ended:?}"),
        () = leaving => {}
    }
    let over = || pods.iter().all(|pod| pod.seen.end("r1").is_some() || pod.seen.refs().is_empty());
    eventually("the end of Solve on the pod", over).await;
    drop((build, user));
    for pod in &pods {
        eventually("the end of all calls", || pod.seen.is_quiet()).await;
    }
    let ends: Vec<End> = pods.iter().filter_map(|pod| pod.seen.end("r1")).collect();
    let wanted: &[End] = if stage == Stage::Held { &[] } else { &[End::Cancelled] };
    assert_eq!(ends, wanted, "one pod had it, and it was told");
    eventually("an idle fleet", || front.running().iter().all(|(_, builds)| *builds == 0)).await;
    front.user().await.build(Plan::new("r2").does("context")).await.well();
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_build_on_the_pod() {
    let mut rows = Rows::default();
    let stages = [Stage::Held, Stage::Frontend, Stage::FrontendReads, Stage::Evaluated, Stage::Exports, Stage::Direct];
    for stage in stages {
        for leave in [Leave::Cancels, Leave::IsCut] {
            rows.row(format!("{stage:?}, the client {leave:?}"), leaves(stage, leave));
        }
    }
    rows.pass().await;
}

async fn leaves_before_there_is_a_pod(plan: Plan, leave: Leave) {
    let front = Front::new();
    let user = front.user().await;
    let build = user.begin(plan);
    front.pods.first_order().await;
    let calls = tokio::time::timeout(Duration::from_millis(200), build.make());
    let _ = calls.await;
    match leave {
        Leave::Cancels => build.cancel_solve(),
        Leave::IsCut => user.cut(),
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop((build, user));
    let [pod] = front.ready_pods(["kube0-a"]).await;
    front.user().await.build(Plan::new("r2").does("context")).await.well();
    assert_eq!(pod.seen.refs(), ["r2"], "the build whose client has left never reaches a pod");
    assert!(pod.seen.attached("session-of-r1").is_empty(), "{:?}", pod.seen);
}

#[tokio::test]
async fn a_call_that_outlives_its_build_does_not_begin_it() {
    let front = Front::new();
    let user = front.user().await;
    let build = user.begin(Plan::new("r1").does("hang"));
    let outliving = build.make();
    let ending = async {
        front.pods.first_order().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        build.cancel_solve();
    };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(2), async { tokio::join!(outliving, ending) })
        .await
        .expect("the call ends with its build");
    assert_eq!(ended.unwrap_err().message(), "no such job r1");
    let [pod] = front.ready_pods(["kube0-a"]).await;
    front.user().await.build(Plan::new("r2").does("context")).await.well();
    assert_eq!(pod.seen.refs(), ["r2"]);
}

#[tokio::test]
async fn a_client_that_leaves_before_there_is_a_pod_leaves_nothing_for_it() {
    let mut rows = Rows::default();
    for leave in [Leave::Cancels, Leave::IsCut] {
        let driven = Plan::new("r1").does("hang");
        rows.row(format!("driven, the client {leave:?}"), leaves_before_there_is_a_pod(driven.clone(), leave));
        rows.row(format!("direct, the client {leave:?}"), leaves_before_there_is_a_pod(driven.directly(), leave));
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_client_that_cancels_status_alone_still_gets_its_build() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let mut build = user.begin(Plan::new("r1").does("log:1 sleep:600 context"));
    let watched = build.watched.clone();
    let cancelling = async {
        eventually("the first line", || watched.logs() == "line 1\n").await;
    };
    let made = async {
        build.ping().await.unwrap();
        build.make().await.unwrap()
    };
    let (made, ()) = tokio::join!(made, cancelling);
    build.cancel_status();
    eventually("the end of Status on the pod", || {
        pod.seen.open_statuses.load(std::sync::atomic::Ordering::SeqCst) == 0
    })
    .await;
    build.give_back(&made).await.unwrap();
    build.end(Ok(())).await.well();
    assert_eq!(pod.seen.end("r1"), Some(End::Done));
}

#[tokio::test]
async fn a_gateway_call_that_is_cancelled_ends_on_the_pod_and_the_build_goes_on() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let build = user.begin(Plan::new("r1").does("stall"));
    build.ping().await.unwrap();
    let hanging = tokio::time::timeout(Duration::from_millis(400), build.make()).await;
    assert!(hanging.is_err(), "{hanging:?}");
    eventually("the end of the call on the pod", || pod.seen.open_calls.load(std::sync::atomic::Ordering::SeqCst) == 0)
        .await;
    assert!(!build.is_solved(), "the build has ended with one of its calls");
    build.give_up(&tonic::Status::aborted("enough")).await.unwrap();
    let built = build.end(Ok(())).await;
    assert_eq!((built.error().code(), built.error().message()), (tonic::Code::Aborted, "enough"));
}

#[tokio::test]
async fn a_build_that_fails_by_itself_fails_as_the_pod_said() {
    let mut rows = Rows::default();
    for (name, plan) in [
        ("in the frontend", Plan::new("r1").does("fail:0")),
        ("when its result is evaluated", Plan::new("r1").builds("fail:0")),
        ("when its client evaluates", Plan { evaluates: true, ..Plan::new("r1").builds("fail:0") }),
        ("with a frontend of its own", Plan::new("r1").directly().does("fail:0")),
    ] {
        rows.row(name, async move {
            let front = Front::new();
            let pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
            let built = front.user().await.build(plan).await;
            assert_eq!(built.error().code(), tonic::Code::Unknown);
            assert_eq!(built.error().message(), "exit code: 1 „ä“");
            assert!(matches!(built.status, Some(Ok(()))), "{built:#?}");
            let ran: usize = pods.iter().map(|pod| pod.seen.refs().len()).sum();
            assert_eq!(ran, 1, "a build that fails is not begun anew");
        });
    }
    rows.pass().await;
}
