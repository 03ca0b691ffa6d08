//! Much of everything: long messages and trailers, many builds at once, and readers that are slower than who sends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::{Definition, SolveRequest, StatusRequest, frontend};
use futures::future::join_all;
use tonic::Code;

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;
use crate::support::user::offer::{FILE_SYNC, Offer};
use crate::support::user::plan::{Part, Plan};

const MIB: usize = 1 << 20;

/// The longest message that BuildKit takes, with room for what stands around it.
const LONGEST: usize = 16 * MIB - (64 << 10);

/// What may be on its way between two ends that do not meet: windows and buffers of two hops.
const ON_THE_WAY: usize = 24 * MIB;

/// So many connections to a pod carry sessions, beside the one for all other calls.
const BULK: usize = 4;

#[tokio::test]
async fn an_error_keeps_its_details_however_long_they_are() {
    let mut rows = Rows::default();
    let script = format!("fail:{MIB}");
    for (name, plan) in [
        ("of the frontend", Plan::new("r1").does(&script)),
        ("of the evaluation", Plan::new("r1").builds(&script)),
        ("of a frontend that Solve names", Plan::new("r1").directly().does(&script)),
    ] {
        rows.row(name, async move {
            let front = Front::new();
            let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
            let built = front.user().await.build(plan.clone()).await;
            // The client's own Return carries no details here; the call that failed has them.
            let status = built.gateway.as_ref().err().unwrap_or_else(|| built.error());
            assert_eq!((status.code(), status.message()), (Code::Unknown, "exit code: 1 „ä“"));
            assert!(status.details() == vec![7_u8; MIB], "{} bytes of details", status.details().len());
        });
    }
    rows.row("of the user, to the pod", async {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a"]).await;
        let built = front.user().await.build(Plan::new("r1").does(&format!("refused:{MIB}"))).await;
        assert_eq!(built.well()["refused"], format!("PermissionDenied no credentials {MIB}"));
    });
    rows.pass().await;
}

// Alone, because its client gives progress no more than 5 s after the end of the build.
#[tokio::test]
async fn a_message_of_progress_passes_as_long_as_buildkit_takes_it() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a"]).await;
    let plan = Plan::new("r1").does(&format!("large:{LONGEST} large:{LONGEST} log:1"));
    let built = front.user().await.build(plan).await;
    built.well();
    assert_eq!(built.watched.bytes(), 2 * LONGEST + "line 1\n".len());
}

#[tokio::test]
async fn a_message_passes_as_long_as_buildkit_takes_it() {
    let mut rows = Rows::default();
    let graph = || Definition { def: vec![vec![b'd'; LONGEST]] };
    rows.row("Solve to the pod", async move {
        let front = Front::new();
        let [pod] = front.ready_pods(["kube0-a"]).await;
        let request = SolveRequest { r#ref: "r1".to_owned(), definition: Some(graph()), ..SolveRequest::default() };
        front.client().await.solve(request.clone()).await.unwrap();
        assert!(pod.seen.solves()[0] == request, "the pod got something else");
    });
    rows.row("the gateway's Solve to the pod", async move {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a"]).await;
        let user = front.user().await;
        let build = user.begin(Plan::new("r1"));
        let request = frontend::SolveRequest { definition: Some(graph()), ..frontend::SolveRequest::default() };
        user.bridge("r1", "Solve", &request).await.unwrap();
        build.finish().await.well();
    });
    rows.row("both ways in a session", async {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a"]).await;
        let built = front.user().await.build(Plan::new("r1").does(&format!("echo:{LONGEST}"))).await;
        assert_eq!(built.well()["echoed"], LONGEST.to_string());
    });
    rows.row("a message that the pod refuses for its length", async {
        let front = Front::new();
        let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
        let definition = Some(Definition { def: vec![vec![b'd'; 17 * MIB]] });
        let request = SolveRequest { r#ref: "r1".to_owned(), definition, ..SolveRequest::default() };
        let status = front.client().await.solve(request).await.unwrap_err();
        assert!(status.code() == Code::OutOfRange || status.code() == Code::ResourceExhausted, "{status:?}");
    });
    rows.pass().await;
}

/// So many builds at once, each by its own client or all by one.
async fn at_once(count: usize, one_connection: bool) {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c", "kube0-d"]).await;
    let shared = front.user().await;
    let builds = (0..count).map(|number| {
        let (front, shared) = (&front, shared.clone());
        async move {
            let user = if one_connection { shared } else { front.user().await };
            let plan = Plan::new(&format!("r{number}")).does("context log:3").builds("log:1");
            let plan = plan.exports(1000).offers(|offer| offer.with_context((64 << 10) + number));
            (number, user.build(plan).await)
        }
    });
    let begun = Instant::now();
    for (number, built) in join_all(builds).await {
        let response = built.well();
        assert_eq!(response["bytes"], ((64 << 10) + number).to_string());
        // A machine that is busy with so many may take long enough to find a pod to have it told.
        let logs = built.watched.logs();
        assert!(logs.ends_with("line 1\nline 2\nline 3\nline 1\n"), "build {number}: {logs}");
        assert_eq!(built.given.export("0"), 1000, "build {number}");
    }
    println!("{count} builds in {:?}, one connection: {one_connection}", begun.elapsed());
    let mut refs: Vec<String> = pods.iter().flat_map(|pod| pod.seen.refs()).collect();
    refs.sort();
    refs.dedup();
    assert_eq!(refs.len(), count, "each build ran, on one pod");
    for FakeBuildkitd { seen, .. } in &pods {
        let connections = seen.connections.load(Ordering::SeqCst);
        assert!(connections <= 1 + BULK, "{connections} connections to one pod");
        eventually("the end of all calls", || seen.is_quiet()).await;
    }
    eventually("an idle fleet", || front.running().iter().all(|(_, builds)| *builds == 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_builds_of_one_connection_run_at_once() {
    at_once(200, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_builds_of_two_hundred_connections_run_at_once() {
    at_once(200, false).await;
}

async fn status_that_nobody_reads(plan: Plan, ends: bool) {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let flood = user.begin(Plan { order: vec![Part::Solve], ..plan.directly().in_session("") });
    let reached = || pod.seen.end("r1").is_some() == ends && pod.seen.refs() == ["r1"];
    eventually("the flood", reached).await;
    // Asked for and not read.
    let _told = user.control().status(StatusRequest { r#ref: "r1".to_owned() }).await.unwrap();
    let begun = Instant::now();
    let plan = Plan::new("r2").does("context log:3").offers(|offer| offer.with_context(8 * MIB));
    let built = user.build(plan).await;
    assert_eq!(built.well()["bytes"], (8 * MIB).to_string());
    assert_eq!(built.watched.logs(), "line 1\nline 2\nline 3\n");
    println!("another build of that connection took {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let taken = pod.seen.told.load(Ordering::SeqCst);
    println!("{taken} bytes of 100 MiB were taken from the pod");
    assert!((1..ON_THE_WAY).contains(&taken), "{taken} bytes were taken for a client that reads none");
    drop(flood);
}

#[tokio::test]
async fn who_does_not_read_its_status_holds_up_its_own_only() {
    let mut rows = Rows::default();
    rows.row("while the build runs", status_that_nobody_reads(Plan::new("r1").does("flood:100 hang"), false));
    rows.row("of a build that has ended", status_that_nobody_reads(Plan::new("r1").does("flood:100"), true));
    rows.pass().await;
}

#[tokio::test]
async fn a_pod_that_does_not_read_a_directory_holds_up_its_own_build_only() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let slow = Plan::new("r1").does("stall").offers(|offer| offer.with_context(256 * MIB));
    let slow = user.begin(slow);
    let given = Arc::clone(&slow.session.as_ref().unwrap().given);
    let stalling = async { slow.make().await };
    let others = async {
        eventually("the call", || !given.calls(FILE_SYNC).is_empty()).await;
        let quick = Plan::new("r2").does("context").offers(|offer| offer.with_context(8 * MIB));
        let built = user.build(quick).await;
        assert_eq!(built.well()["bytes"], (8 * MIB).to_string());
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    tokio::select! {
        made = stalling => panic!("{made:?}"),
        () = others => {}
    }
    println!("{} bytes of 256 MiB were taken from the user", given.sent());
    assert!(given.sent() < ON_THE_WAY, "{} bytes were taken for a pod that reads none", given.sent());
}

#[tokio::test]
async fn a_user_that_does_not_take_its_export_holds_up_its_own_build_only() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let slow = Plan::new("r1").exports(256 * MIB).offers(|offer| Offer { takes_exports: false, ..offer });
    let slow = user.begin(slow);
    slow.ping().await.unwrap();
    let made = slow.make().await.unwrap();
    slow.give_back(&made).await.unwrap();
    let built = user.build(Plan::new("r2").exports(8 * MIB)).await;
    built.well();
    assert_eq!(built.given.export("0"), 8 * MIB);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = pod.seen.exported.load(Ordering::SeqCst) - 8 * MIB;
    println!("{sent} bytes of 256 MiB were taken from the pod");
    assert!(sent < ON_THE_WAY, "{sent} bytes were taken for a user that takes none");
    assert!(!slow.is_solved());
}

#[tokio::test]
async fn a_directory_and_an_export_of_many_windows_pass_whole() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a"]).await;
    let plan = Plan::new("r1").does("context").exports(64 * MIB);
    let built = front.user().await.build(plan.offers(|offer| offer.with_context(64 * MIB + 1))).await;
    assert_eq!(built.well()["bytes"], (64 * MIB + 1).to_string());
    assert_eq!(built.given.export("0"), 64 * MIB);
    println!("64 MiB each way took {:?}", built.took);
}
