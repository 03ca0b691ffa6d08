//! What the proxy relies on in a `buildkitd`: the same checks for the fake one, for a real one, and through the proxy.

use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::frontend::EvaluateRequest;
use buildfleet_proto::buildkit::{BuildHistoryRequest, StatusRequest};
use bytes::Bytes;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::user::User;
use super::user::build::Made;
use super::user::offer::Offer;
use super::user::plan::Plan;
use super::user::session::UserSession;

/// The longest of the waits takes some 6 s.
const LIMIT: Duration = Duration::from_secs(30);

type Check = (&'static str, fn(User) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// The checks by their names.
macro_rules! checks {
    ($($name:ident),+ $(,)?) => { [$((stringify!($name), |user| Box::pin($name(user)))),+] };
}

/// What a daemon in front of pods makes true, too.
const THROUGH_A_DAEMON: [Check; 9] = checks![
    a_second_build_of_one_ref_is_refused,
    a_gateway_call_waits_for_its_build,
    a_gateway_call_without_a_build_fails_after_a_wait,
    a_handle_belongs_to_its_build,
    a_build_without_a_frontend_ends_with_the_clients_return,
    a_client_that_fails_fails_its_build,
    a_cancelled_build_is_gone_for_the_gateway,
    a_build_waits_for_its_session_and_names_it,
    a_session_that_is_half_closed_ends_well,
];

const OF_A_POD: [Check; 5] = checks![
    a_status_without_a_build_is_answered_at_once_and_refused_late,
    a_gateway_call_names_one_build,
    a_build_that_has_ended_tells_its_status_again,
    a_session_is_asked_for_its_health,
    an_internal_build_leaves_no_record,
];

/// Runs all checks on a `buildkitd`.
pub(crate) async fn hold_for_a_pod(socket: &Path) {
    all_hold(socket, THROUGH_A_DAEMON.into_iter().chain(OF_A_POD)).await;
}

/// Runs those on a daemon's socket that a client should not be able to tell from a `buildkitd`'s.
pub(crate) async fn hold_through_a_daemon(socket: &Path) {
    all_hold(socket, THROUGH_A_DAEMON.into_iter()).await;
}

/// Runs checks side by side; panics with the names of those that fail.
async fn all_hold(socket: &Path, wanted: impl Iterator<Item = Check>) {
    let mut checks = JoinSet::new();
    let mut names = Vec::new();
    for (name, check) in wanted {
        let check = check(User::connect(socket).await);
        let bounded = async { tokio::time::timeout(LIMIT, check).await.expect("the check hangs") };
        names.push((checks.spawn(bounded).id(), name));
    }
    let mut failed: Vec<&str> = Vec::new();
    while let Some(done) = checks.join_next_with_id().await {
        if let Err(error) = done {
            failed.extend(names.iter().filter(|(id, _)| *id == error.id()).map(|(_, name)| *name));
        }
    }
    assert!(failed.is_empty(), "these do not hold: {failed:#?}");
}

/// A build that a client drives, without any frontend so far.
fn driven(r#ref: &str) -> Plan {
    Plan::new(r#ref).in_session("a-session-that-is-not-there")
}

/// A result without anything in it.
fn nothing() -> Made {
    Made { raw: Bytes::new(), handles: Vec::new() }
}

fn refused(status: &Status, code: Code, words: &str) {
    assert!(status.code() == code && status.message().contains(words), "{status:?} is not {code:?} with {words:?}");
}

/// Between the shortest and the longest wait that a version of BuildKit has, with room for a busy machine.
fn waited(begun: Instant, least: u64) {
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(least) && waited < Duration::from_secs(12), "{waited:?}");
}

async fn a_status_without_a_build_is_answered_at_once_and_refused_late(user: User) {
    let begun = Instant::now();
    let answer = user.control().status(StatusRequest { r#ref: "unknown".to_owned() }).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "the headers came after {:?}", begun.elapsed());
    assert!(answer.metadata().contains_key("buildkit-current-timestamp"), "{:?}", answer.metadata());
    let status = answer.into_inner().message().await.unwrap_err();
    refused(&status, Code::NotFound, "no such job unknown");
    waited(begun, 1500);
}

async fn a_second_build_of_one_ref_is_refused(user: User) {
    let first = user.begin(driven("twice"));
    first.ping().await.unwrap();
    let status = user.control().solve(driven("twice").solve_request()).await.unwrap_err();
    refused(&status, Code::Unknown, "job ID twice exists");
    first.give_back(&nothing()).await.unwrap();
    first.end(Ok(())).await.well();
}

async fn a_gateway_call_waits_for_its_build(user: User) {
    let ping = user.bridge_raw(&["early"], "Ping", Bytes::new());
    let build = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        user.begin(driven("early"))
    };
    let (pong, build) = tokio::join!(ping, build);
    assert!(pong.unwrap().len() > 1000, "the answer names no capabilities");
    build.give_back(&nothing()).await.unwrap();
    build.end(Ok(())).await.well();
}

async fn a_gateway_call_without_a_build_fails_after_a_wait(user: User) {
    let begun = Instant::now();
    let status = user.bridge_raw(&["nobody"], "Ping", Bytes::new()).await.unwrap_err();
    refused(&status, Code::NotFound, "no such job nobody");
    waited(begun, 1500);
}

async fn a_gateway_call_names_one_build(user: User) {
    for builds in [&[][..], &["one", "two"]] {
        let status = user.bridge_raw(builds, "Ping", Bytes::new()).await.unwrap_err();
        refused(&status, Code::Unknown, "forwarding Ping: no buildid found in context");
    }
}

async fn a_handle_belongs_to_its_build(user: User) {
    let build = user.begin(driven("handles"));
    build.ping().await.unwrap();
    let foreign = "abcdefghijklmnopqrstuvwxy";
    for method in ["Evaluate", "ReadFile"] {
        let request = EvaluateRequest { r#ref: foreign.to_owned() };
        let status = user.bridge("handles", method, &request).await.unwrap_err();
        refused(&status, Code::Unknown, &format!("no such ref: {foreign}"));
    }
    // The field `ref` of a Result, whose only field is the handle.
    let raw = [&[0x1a, 27, 0x0a, 25][..], foreign.as_bytes()].concat().into();
    let status = build.give_back(&Made { raw, handles: Vec::new() }).await.unwrap_err();
    refused(&status, Code::Unknown, &format!("return reference {foreign} not found"));
    build.give_back(&nothing()).await.unwrap();
    build.end(Ok(())).await.well();
}

async fn a_build_without_a_frontend_ends_with_the_clients_return(user: User) {
    let build = user.begin(driven("returns"));
    build.ping().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!build.is_solved(), "Solve has ended by itself");
    build.give_back(&nothing()).await.unwrap();
    let built = build.end(Ok(())).await;
    built.well();
    assert!(built.took < Duration::from_secs(5), "{:?}", built.took);
}

async fn a_client_that_fails_fails_its_build(user: User) {
    let build = user.begin(driven("gives-up"));
    build.ping().await.unwrap();
    build.give_up(&Status::resource_exhausted("too little patience")).await.unwrap();
    let built = build.end(Ok(())).await;
    refused(built.error(), Code::ResourceExhausted, "too little patience");
}

async fn a_build_that_has_ended_tells_its_status_again(user: User) {
    let build = user.begin(driven("ended"));
    build.ping().await.unwrap();
    build.give_back(&nothing()).await.unwrap();
    build.end(Ok(())).await.well();
    let begun = Instant::now();
    let mut told = user.control().status(StatusRequest { r#ref: "ended".to_owned() }).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

async fn a_cancelled_build_is_gone_for_the_gateway(user: User) {
    let build = user.begin(driven("cancelled"));
    build.ping().await.unwrap();
    build.cancel_solve();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    let status = build.ping().await.unwrap_err();
    refused(&status, Code::NotFound, "no such job cancelled");
    // The daemon knows it at once.
    waited(begun, 0);
}

async fn a_build_waits_for_its_session_and_names_it(user: User) {
    let begun = Instant::now();
    let plan = driven("alone").directly().does("context");
    let status = user.control().solve(plan.solve_request()).await.unwrap_err();
    refused(&status, status.code(), "no active session for a-session-that-is-not-there: context deadline exceeded");
    waited(begun, 4000);
}

async fn a_session_is_asked_for_its_health(user: User) {
    let offer = Offer::new("well").with_metadata("x-buildkit-session-health-custom-timeout", "1000");
    let session = UserSession::open(&user, offer, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let checks = session.given.checks();
    assert!((2..=3).contains(&checks), "{checks} checks in 3.5 s, at an interval of one second");
}

async fn a_session_that_is_half_closed_ends_well(user: User) {
    let mut session = UserSession::open(&user, Offer::new("short"), Duration::ZERO);
    session.greeted().await;
    session.close().await.unwrap();
}

async fn an_internal_build_leaves_no_record(user: User) {
    for (name, internal, records) in [("probe", true, 0), ("build", false, 1)] {
        let build = user.begin(Plan { internal, ..driven(name) });
        build.ping().await.unwrap();
        build.give_back(&nothing()).await.unwrap();
        build.end(Ok(())).await.well();
        let request =
            BuildHistoryRequest { r#ref: name.to_owned(), early_exit: true, ..BuildHistoryRequest::default() };
        let mut history = user.control().listen_build_history(request).await.unwrap().into_inner();
        let mut found = 0;
        while let Some(event) = history.message().await.unwrap() {
            assert_eq!(event.record.unwrap().r#ref, name);
            found += 1;
        }
        assert_eq!(found, records, "records of {name}");
    }
}
