//! Sessions on pods: whichever pod needs one gets it, with all that the user said, and the user's end hears each call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use buildfleet::backend::PodPhase;
use http::HeaderMap;

use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;
use crate::support::user::offer::{FILE_SEND, FILE_SYNC, HEALTH, Offer};
use crate::support::user::plan::{Part, Plan};
use crate::support::user::session::UserSession;

/// The pod's own word for a session that has ended under a call.
fn broke(status: &tonic::Status) {
    assert!(status.message().contains("the stream broke"), "{status:?}");
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn what_a_session_says_of_itself_reaches_the_pod_as_it_was_said() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    // Neither UTF-8 nor a comma is a reason to touch it.
    let key = b"pr\xf6jekt, \xe2\x98\x83:builder0".to_vec();
    let offer = Offer::new("s1")
        .with_metadata("x-docker-expose-session-sharedkey", key.clone())
        .with_metadata("x-docker-expose-session-name", "one")
        .with_metadata("x-something-new", "first")
        .with_metadata("x-something-new", "second");
    let methods: Vec<Vec<u8>> = offer.methods.iter().map(|method| method.as_bytes().to_vec()).collect();
    let plan = Plan { offer: Some(offer), session: "s1".to_owned(), ..Plan::new("r1").does("context") };
    front.user().await.build(plan).await.well();
    let metadata = pod.seen.metadata("s1");
    assert_eq!(lines(&metadata, "x-docker-expose-session-grpc-method"), methods);
    assert_eq!(lines(&metadata, "x-docker-expose-session-sharedkey"), [key]);
    assert_eq!(lines(&metadata, "x-docker-expose-session-name"), [b"one".to_vec()]);
    assert_eq!(lines(&metadata, "x-something-new"), [b"first".to_vec(), b"second".to_vec()]);
}

#[tokio::test]
async fn a_pods_calls_reach_the_user_with_their_headers() {
    let front = Front::new();
    let _pod = front.ready_pods(["kube0-a"]).await;
    let built = front.user().await.build(Plan::new("r1").does("context").exports(100)).await;
    built.well();
    let [call] = &built.given.calls(FILE_SYNC)[..] else { panic!("{:?}", built.given) };
    assert_eq!(lines(call, "dir-name"), [b"context".to_vec()]);
    assert_eq!(lines(call, "include-patterns"), [b"a".to_vec(), b"b".to_vec()]);
    let [call] = &built.given.calls(FILE_SEND)[..] else { panic!("{:?}", built.given) };
    assert_eq!(lines(call, "buildkit-attachable-exporter-id"), [b"0".to_vec()]);
    assert_eq!(built.given.export("0"), 100);
}

#[tokio::test]
async fn every_exporter_of_a_build_delivers_to_the_user() {
    let front = Front::new();
    let _pod = front.ready_pods(["kube0-a"]).await;
    let plan = Plan::new("r1").exports(3 << 20).exporter("image", &[]).exporter("oci", &[("bytes", "777")]);
    let built = front.user().await.build(plan).await;
    built.well();
    assert_eq!([built.given.export("0"), built.given.export("1"), built.given.export("2")], [3 << 20, 0, 777]);
}

#[tokio::test]
async fn the_users_health_is_asked_through_the_session() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let plan = Plan::new("r1").does("sleep:2700 context");
    let asked = "x-buildkit-session-health-custom-timeout";
    let built = front.user().await.build(plan.offers(|offer| offer.with_metadata(asked, "1000"))).await;
    built.well();
    let checks = built.given.checks();
    assert!((2..=3).contains(&checks), "{checks} checks in 2.7 s, at an interval of one second");
    assert_eq!(built.given.calls(HEALTH).len(), checks);
    assert_eq!(pod.seen.attached("session-of-r1").len(), 1, "nothing was given up between");
}

#[tokio::test]
async fn a_user_that_does_not_answer_for_its_health_fails_the_build_by_the_pods_word() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let ill = |offer: Offer| Offer { healthy: false, ..offer };
    let asked = "x-buildkit-session-health-custom-timeout";
    let plan = Plan::new("r1").does("stall").offers(|offer| ill(offer).with_metadata(asked, "1000"));
    let begun = Instant::now();
    let built = front.user().await.build(plan).await;
    broke(built.error());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(pod.seen.refs(), ["r1"], "an ill client is no reason to begin anew");
    eventually("the end of all calls", || pod.seen.is_quiet()).await;
}

#[tokio::test]
async fn a_session_that_the_user_half_closes_ends_in_order_on_both_sides() {
    let mut rows = Rows::default();
    rows.row("before any pod has it", async {
        let front = Front::new();
        let mut session = UserSession::open(&front.user().await, Offer::new("s1"), Duration::ZERO);
        session.greeted().await;
        session.close().await.unwrap();
    });
    rows.row("while a pod has it", async {
        let front = Front::new();
        let [pod] = front.ready_pods(["kube0-a"]).await;
        let user = front.user().await;
        let mut build = user.begin(Plan::new("r1").does("context").builds("hang"));
        build.ping().await.unwrap();
        build.make().await.unwrap();
        assert_eq!(pod.seen.open_sessions.load(Ordering::SeqCst), 1);
        build.session.take().unwrap().close().await.unwrap();
        eventually("the end of the session", || pod.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
        assert!(!build.is_solved(), "a build that needs no session any more goes on");
    });
    rows.row("while a pod reads from it", async {
        let front = Front::new();
        let [pod] = front.ready_pods(["kube0-a"]).await;
        let user = front.user().await;
        let mut build = user.begin(Plan::new("r1").does("stall"));
        build.ping().await.unwrap();
        let session = build.session.take().unwrap();
        let given = Arc::clone(&session.given);
        let closing = async {
            eventually("the call", || !given.calls(FILE_SYNC).is_empty()).await;
            session.close().await
        };
        let (made, closed) = tokio::join!(build.make(), closing);
        // It had to be broken off, so how the session ends is not said; that it does, is.
        drop(closed);
        broke(&made.unwrap_err());
        eventually("the end of the session", || pod.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
    });
    rows.pass().await;
}

#[tokio::test]
async fn a_session_ends_on_its_pod_with_the_build_that_needed_it() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let session = UserSession::open(&user, Offer::new("s1"), Duration::ZERO);
    for name in ["r1", "r2"] {
        user.build(Plan::new(name).in_session("s1").does("context")).await.well();
        eventually("the end of the session", || pod.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
    }
    assert_eq!(pod.seen.attached("s1").len(), 2);
    session.close().await.unwrap();
}

#[tokio::test]
async fn builds_on_one_pod_share_a_session_until_the_last_has_ended() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let _session = UserSession::open(&user, Offer::new("s1"), Duration::ZERO);
    let short = user.build(Plan::new("r1").in_session("s1").does("context sleep:200"));
    let long = user.build(Plan::new("r2").in_session("s1").does("context sleep:800 context"));
    let (short, long) = tokio::join!(short, long);
    assert_eq!((&short.well()["bytes"], &long.well()["bytes"]), (&(1 << 20).to_string(), &(2 << 20).to_string()));
    assert_eq!(pod.seen.attached("s1").len(), 1, "one session on one pod is opened once");
    eventually("the end of the session", || pod.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
}

/// Two builds of one connection on two pods, and a session that serves a local directory of both.
async fn shared_by_two_pods(direct: bool) {
    let front = Front::new();
    let [first] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let shared = UserSession::open(&user, Offer::new("shared").with_context(2 << 20), Duration::ZERO);
    let plan = |name| Plan { direct, ..Plan::new(name).option("local-sessionid:context", "shared") };
    let one = tokio::spawn({
        let (user, plan) = (user.clone(), plan("r1").does("sleep:900 context"));
        async move { user.build(plan).await }
    });
    eventually("the first build", || first.seen.refs() == ["r1"]).await;
    // It takes nothing new, so the second build has to go elsewhere.
    front.pods.set("kube0-a", PodPhase::Terminating, &[]);
    let second = front.pod("kube0-b");
    let two = user.build(plan("r2").does("context sleep:900 context")).await;
    let one = one.await.unwrap();
    assert_eq!((one.pod(), two.pod()), ("kube0-a", "kube0-b"));
    assert_eq!((&one.well()["bytes"], &two.well()["bytes"]), (&(2 << 20).to_string(), &(4 << 20).to_string()));
    for (pod, own, others) in [(&first, "session-of-r1", "session-of-r2"), (&second, "session-of-r2", "session-of-r1")]
    {
        assert_eq!(pod.seen.attached("shared").len(), 1, "{}", pod.name);
        assert_eq!(pod.seen.attached(own).len(), 1, "{}", pod.name);
        assert!(pod.seen.attached(others).is_empty(), "{} has a session that no build of its own names", pod.name);
        eventually("the end of all calls", || pod.seen.is_quiet()).await;
    }
    shared.close().await.unwrap();
}

#[tokio::test]
async fn a_session_that_only_options_name_reaches_every_pod_whose_builds_name_it() {
    let mut rows = Rows::default();
    rows.row("by the options of the client's own calls", shared_by_two_pods(false));
    rows.row("by the options of Solve", shared_by_two_pods(true));
    rows.pass().await;
}

#[tokio::test]
async fn the_session_of_a_source_policy_reaches_the_pod() {
    let mut rows = Rows::default();
    for direct in [false, true] {
        rows.row(format!("direct: {direct}"), async move {
            let front = Front::new();
            let [pod] = front.ready_pods(["kube0-a"]).await;
            let user = front.user().await;
            let policy = UserSession::open(&user, Offer::new("policy"), Duration::ZERO);
            let plan = Plan { direct, policy_session: "policy".to_owned(), ..Plan::new("r1") };
            user.build(plan.does("policy context policy")).await.well();
            assert_eq!(pod.seen.attached("policy").len(), 1);
            let asked = policy.given.calls(crate::support::user::offer::POLICY).len();
            assert_eq!(asked, 2);
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_session_of_another_connection_serves_the_build_that_names_it() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let session = UserSession::open(&front.user().await, Offer::new("elsewhere"), Duration::ZERO);
    let built = front.user().await.build(Plan::new("r1").in_session("elsewhere").does("context")).await;
    assert_eq!(built.well()["bytes"], (1 << 20).to_string());
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_later_session_of_one_id_takes_the_place_of_the_first() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let mut first = UserSession::open(&user, Offer::new("s1").with_context(1), Duration::ZERO);
    first.greeted().await;
    let mut second = UserSession::open(&user, Offer::new("s1").with_context(2), Duration::ZERO);
    second.greeted().await;
    let built = user.build(Plan::new("r1").in_session("s1").does("context")).await;
    assert_eq!(built.well()["bytes"], "2");
    // The end of the first does not take the second along.
    first.close().await.unwrap();
    user.build(Plan::new("r2").in_session("s1").does("context")).await.well();
}

#[tokio::test]
async fn a_session_that_breaks_off_fails_the_build_that_reads_from_it_and_no_other() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let mut build = user.begin(Plan::new("r1").does("stall"));
    let other = tokio::spawn({
        let user = user.clone();
        async move { user.build(Plan::new("r2").does("sleep:700 context")).await }
    });
    build.ping().await.unwrap();
    let session = build.session.take().unwrap();
    let given = Arc::clone(&session.given);
    let breaking = async {
        eventually("the call", || !given.calls(FILE_SYNC).is_empty()).await;
        drop(session);
    };
    let (made, ()) = tokio::join!(build.make(), breaking);
    broke(&made.unwrap_err());
    other.await.unwrap().well();
}

#[tokio::test]
async fn a_build_without_any_session_needs_none() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let plan = Plan::new("r1").in_session("").does("log:1");
    let parts = vec![Part::Solve, Part::Status, Part::Bridge];
    front.user().await.build(Plan { order: parts, ..plan }).await.well();
    assert_eq!(pod.seen.open_sessions.load(Ordering::SeqCst), 0);
}
