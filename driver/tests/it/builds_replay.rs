//! A pod that ends in mid-build: the build is begun anew on another one, and its client notices only a new step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buildfleet_proto::buildkit::Vertex;
use tonic::Status;

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::buildkitd::seen::End;
use crate::support::front::{Front, eventually};
use crate::support::rows::Rows;
use crate::support::user::User;
use crate::support::user::build::{Built, Made, Running};
use crate::support::user::plan::Plan;

/// When the pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client's Solve of the gateway runs on the pod.
    Frontend,
    /// The pod reads the build context.
    Upload,
    /// The client has its result and has not given it back.
    Made,
    /// It has evaluated the result, too.
    Evaluated,
    /// It has given it back, and the pod builds.
    Returned,
    /// Solve names the frontend, which runs.
    Direct,
    /// The same, when its result is evaluated.
    DirectBuild,
}

const PHASES: [Phase; 7] =
    [Phase::Frontend, Phase::Upload, Phase::Made, Phase::Evaluated, Phase::Returned, Phase::Direct, Phase::DirectBuild];

impl Phase {
    fn plan(self) -> Plan {
        let plan = Plan::new("r1").exports(3 << 20);
        match self {
            Self::Frontend => plan.does("context sleep:600"),
            Self::Upload => plan.does("context").offers(|offer| offer.with_context(96 << 20)),
            Self::Made | Self::Evaluated => plan.does("context").builds("log:1"),
            Self::Returned => plan.does("context").builds("sleep:600 log:1"),
            Self::Direct => plan.does("context sleep:600").directly(),
            Self::DirectBuild => plan.does("context").builds("sleep:600").directly(),
        }
    }

    /// Whether the pod is where it has to end, for phases that it is in by itself.
    fn is_reached(self, build: &Running, pod: &FakeBuildkitd) -> bool {
        let seen = |step: &str| build.watched.vertices().iter().any(|name| name.ends_with(step));
        let sent = build.session.as_ref().unwrap().given.sent();
        match self {
            Self::Frontend | Self::Direct | Self::DirectBuild => seen("sleep:600"),
            Self::Upload => (1 << 20..64 << 20).contains(&sent),
            Self::Returned => pod.seen.bridge("r1").last().is_some_and(|method| method == "Return"),
            Self::Made | Self::Evaluated => true,
        }
    }
}

/// The pods, the one with the build apart.
async fn with_the_build(mut pods: Vec<FakeBuildkitd>) -> (FakeBuildkitd, Vec<FakeBuildkitd>) {
    eventually("the build", || pods.iter().any(|pod| !pod.seen.refs().is_empty())).await;
    let place = pods.iter().position(|pod| !pod.seen.refs().is_empty()).unwrap();
    (pods.remove(place), pods)
}

async fn drive(build: &Running, phase: Phase, made: tokio::sync::oneshot::Sender<()>) -> Result<Made, Status> {
    build.ping().await?;
    let result = build.make().await?;
    if phase == Phase::Evaluated {
        build.evaluate(&result).await?;
    }
    let _ = made.send(());
    Ok(result)
}

/// Runs a build whose first pod ends in that phase.
async fn loses_its_pod(front: &Front, plan: Plan, phase: Phase) -> (Built, FakeBuildkitd, String) {
    let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b"]).await);
    let user = front.user().await;
    let build = user.begin(plan.clone());
    let (sender, made) = tokio::sync::oneshot::channel();
    let ending = async {
        if plan.direct {
            // Nothing else drives it.
        } else if matches!(phase, Phase::Made | Phase::Evaluated) {
            made.await.unwrap();
        }
        let (victim, others) = with_the_build(pods).await;
        eventually("the phase", || phase.is_reached(&build, &victim)).await;
        let first = victim.name.clone();
        assert_eq!(victim.seen.refs(), ["r1"]);
        front.ends(victim, "Evicted");
        (others, first)
    };
    let driving = async {
        if plan.direct {
            return (Ok(()), ending.await);
        }
        if matches!(phase, Phase::Made | Phase::Evaluated) {
            let (result, ended) = tokio::join!(drive(&build, phase, sender), ending);
            return match result {
                Ok(result) => (build.give_back(&result).await, ended),
                Err(status) => (Err(status), ended),
            };
        }
        let all = async {
            let result = drive(&build, phase, sender).await?;
            build.give_back(&result).await
        };
        tokio::join!(all, ending)
    };
    let (gateway, (mut others, first)) = driving.await;
    let built = build.end(gateway).await;
    (built, others.remove(0), first)
}

/// The step that tells of the change, as the client sees it in the end.
fn change(built: &Built) -> Vertex {
    let told = built.watched.told();
    let mut steps = told.iter().flat_map(|told| &told.vertexes);
    let last = steps.rfind(|step| step.name.contains("again") && step.name.contains("kube0"));
    last.unwrap_or_else(|| panic!("no step tells of the change: {built:#?}")).clone()
}

#[tokio::test]
async fn a_build_whose_pod_ends_is_begun_anew_on_another_one() {
    let mut rows = Rows::default();
    for phase in PHASES {
        rows.row(format!("{phase:?}"), async move {
            let front = Front::new();
            let (built, other, first) = loses_its_pod(&front, phase.plan(), phase).await;
            assert_eq!(built.pod(), other.name, "{built:#?}");
            assert_eq!((other.seen.refs(), other.seen.end("r1")), (vec!["r1".to_owned()], Some(End::Done)));
            let bytes = if phase == Phase::Upload { 96 << 20 } else { 1 << 20 };
            assert_eq!(built.well()["bytes"], bytes.to_string(), "the user's session went along");
            assert_eq!(built.given.export("0"), 3 << 20, "an export is delivered once");
            let change = change(&built);
            assert!(change.completed.is_some() && change.error.is_empty(), "{change:?}");
            let logs = built.watched.logs();
            assert!(logs.contains(&first) && logs.contains("Evicted"), "{logs}");
            eventually("the end of all calls", || other.seen.is_quiet()).await;
            eventually("an idle fleet", || front.running().iter().all(|(_, builds)| *builds == 0)).await;
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_client_keeps_its_handles_when_its_pod_changes() {
    let mut rows = Rows::default();
    let both = "linux/amd64,linux/arm64";
    let plan = || Plan::new("r1").does("context").builds("log:1");
    for (name, plan) in [
        ("one result", plan()),
        ("one result for each platform", plan().option("platform", both)),
        ("one result, in the old form", plan().option("result", "deprecated")),
        ("one for each platform, in the old form", plan().option("platform", both).option("result", "deprecated")),
        ("with attestations", plan().option("platform", both).option("attest:sbom", "")),
    ] {
        for phase in [Phase::Made, Phase::Evaluated] {
            let plan = plan.clone();
            rows.row(format!("{name}, {phase:?}"), async move {
                let front = Front::new();
                let (built, other, first) = loses_its_pod(&front, plan, phase).await;
                assert_eq!(built.pod(), other.name);
                // Fields of the result that no type of ours names come back as the client gave them.
                assert_eq!(built.well()["containerimage.config"], format!("config made by {first}"));
            });
        }
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_build_that_is_held_hears_nothing_of_a_pod_that_ends() {
    let front = Front::new();
    let [one, two] = front.ready_pods(["kube0-a", "kube0-b"]).await;
    let user = front.user().await;
    let build = user.begin(Plan::new("r1").does("context"));
    build.ping().await.unwrap();
    front.ends(one, "Evicted");
    let built = build.finish().await;
    assert_eq!(built.pod(), "kube0-b");
    assert_eq!(built.watched.vertices(), ["[kube0-b 1] context"]);
    assert_eq!(two.seen.refs(), ["r1"]);
}

#[tokio::test]
async fn a_pod_of_whose_end_the_backend_hears_late_loses_its_build_in_time() {
    let front = Front::new();
    let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b"]).await);
    let user = front.user().await;
    let build = tokio::spawn(async move { user.build(Plan::new("r1").does("context sleep:500")).await });
    let (victim, others) = with_the_build(pods).await;
    let name = victim.name.clone();
    victim.kill().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    front.pods.end(&name, "OOMKilled");
    let built = build.await.unwrap();
    assert_eq!(built.pod(), others[0].name);
    assert!(built.watched.logs().contains("OOMKilled"), "{}", built.watched.logs());
}

#[tokio::test]
async fn a_buildkitd_that_crashes_in_its_pod_gets_the_build_again() {
    let front = Front::new();
    let [first] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let build = tokio::spawn(async move { user.build(Plan::new("r1").does("context sleep:500")).await });
    eventually("the build", || first.seen.refs() == ["r1"]).await;
    first.kill().await;
    front.pods.restart("kube0-a", "OOMKilled");
    let second = FakeBuildkitd::start("kube0-a", front.directory());
    let built = build.await.unwrap();
    built.well();
    assert_eq!(second.seen.refs(), ["r1"]);
    let logs = built.watched.logs();
    assert!(logs.contains("OOMKilled"), "{logs}");
}

#[tokio::test]
async fn a_pod_that_falls_silent_and_is_known_to_be_gone_loses_its_build_in_time() {
    let front = Front::new();
    let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b"]).await);
    let user = front.user().await;
    let build = tokio::spawn(async move { user.build(Plan::new("r1").does("context sleep:500")).await });
    let (mut victim, others) = with_the_build(pods).await;
    victim.freeze();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    front.pods.end(&victim.name, "node lost");
    let built = build.await.unwrap();
    assert_eq!(built.pod(), others[0].name);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_pod_that_is_silent_for_a_while_keeps_its_build() {
    let front = Front::new();
    let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b"]).await);
    let user = front.user().await;
    let build = tokio::spawn(async move { user.build(Plan::new("r1").does("sleep:300 context log:1")).await });
    let (mut silent, others) = with_the_build(pods).await;
    silent.freeze();
    // Less than what tells of an end by itself.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    silent.thaw();
    let built = build.await.unwrap();
    assert_eq!(built.pod(), silent.name);
    assert_eq!(built.watched.vertices().len(), 3, "no step of ours: {built:#?}");
    assert!(others[0].seen.refs().is_empty());
}

#[tokio::test]
async fn all_builds_of_a_pod_that_ends_go_on_elsewhere() {
    let front = Front::new();
    let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await);
    let shared = front.user().await;
    let build = |number: usize, user: User| {
        let plan = Plan::new(&format!("r{number}")).does("context sleep:700").builds("sleep:200").exports(1 << 20);
        tokio::spawn(async move { user.build(plan).await })
    };
    let mut builds = Vec::new();
    for number in 0..20 {
        let user = if number % 2 == 0 { shared.clone() } else { front.user().await };
        builds.push(build(number, user));
    }
    eventually("the builds", || pods.iter().map(|pod| pod.seen.refs().len()).sum::<usize>() == 20).await;
    let (victim, others) = with_the_build(pods).await;
    let seen = Arc::clone(&victim.seen);
    front.ends(victim, "OOMKilled");
    for build in builds {
        let built = build.await.unwrap();
        assert_eq!(built.well()["bytes"], (1 << 20).to_string());
        assert_eq!(built.given.export("0"), 1 << 20);
    }
    let again: usize = others.iter().map(|pod| pod.seen.refs().len()).sum();
    assert!(again >= seen.refs().len(), "{again} of {}", seen.refs().len());
}

#[tokio::test]
async fn a_session_that_two_builds_share_goes_along_with_both() {
    let front = Front::new();
    let pods = Vec::from(front.ready_pods(["kube0-a", "kube0-b"]).await);
    let user = front.user().await;
    let offer = crate::support::user::offer::Offer::new("shared");
    let _shared = crate::support::user::session::UserSession::open(&user, offer, Duration::ZERO);
    let plan = |name| Plan::new(name).option("local-sessionid:context", "shared").does("sleep:500 context");
    let (one, two) = (user.build(plan("r1")), user.build(plan("r2")));
    let ending = async {
        let (victim, others) = with_the_build(pods).await;
        front.ends(victim, "Evicted");
        others
    };
    let (one, two, others) = tokio::join!(one, two, ending);
    assert_eq!((one.pod(), two.pod()), (others[0].name.as_str(), others[0].name.as_str()));
    assert_eq!(others[0].seen.attached("shared").len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_its_build_looks_for_another_pod_is_not_followed() {
    let front = Front::new();
    let [first] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let build = user.begin(Plan::new("r1").directly().does("hang"));
    eventually("the build", || first.seen.refs() == ["r1"]).await;
    front.ends(first, "Evicted");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!build.is_solved(), "a build without a pod waits for one");
    user.cut();
    drop((build, user));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let [second] = front.ready_pods(["kube0-b"]).await;
    front.user().await.build(Plan::new("r2").does("context")).await.well();
    assert_eq!(second.seen.refs(), ["r2"]);
}
