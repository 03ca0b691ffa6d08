//! Where builds go, and what counts as one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buildfleet::backend::PodPhase;
use buildfleet_proto::buildkit::BuildHistoryRequest;

use crate::support::buildkitd::seen::End;
use crate::support::front::{Front, eventually, solve};
use crate::support::rows::Rows;
use crate::support::user::plan::Plan;

#[tokio::test]
async fn a_build_counts_from_its_placement_to_its_end() {
    let mut rows = Rows::default();
    for (name, plan, counted) in [
        ("driven by its client", Plan::new("r1").does("sleep:400"), 1),
        ("with a frontend of its own", Plan::new("r1").directly().does("sleep:400"), 1),
        ("a probe", Plan { internal: true, ..Plan::new("r1").does("sleep:400") }, 0),
    ] {
        rows.row(name, async move {
            let front = Front::new();
            let [pod] = front.ready_pods(["kube0-a"]).await;
            let user = front.user().await;
            assert_eq!(front.running(), [("kube0-a".to_owned(), 0)]);
            let build = tokio::spawn(async move { user.build(plan).await });
            eventually("the build", || pod.seen.refs() == ["r1"]).await;
            assert_eq!(front.running(), [("kube0-a".to_owned(), counted)]);
            build.await.unwrap().well();
            eventually("an idle fleet", || front.running() == [("kube0-a".to_owned(), 0)]).await;
        });
    }
    rows.pass().await;
}

#[tokio::test]
async fn a_connection_that_builds_nothing_counts_as_nothing() {
    let front = Front::new();
    let [_pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    user.control().disk_usage(buildfleet_proto::buildkit::DiskUsageRequest::default()).await.unwrap();
    user.build(Plan::new("r1").does("log:1")).await.well();
    eventually("an idle fleet", || front.running() == [("kube0-a".to_owned(), 0)]).await;
}

#[tokio::test]
async fn a_probe_says_nothing_of_where_the_build_goes() {
    let front = Front::new();
    let pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c"]).await;
    let user = front.user().await;
    let home = user.build(Plan::new("r1").does("log:1")).await.pod().to_owned();
    for number in 0..5 {
        let user = front.user().await;
        let probe = Plan { internal: true, ..Plan::new(&format!("probe{number}")).does("log:1") };
        user.build(probe).await.well();
        let built = user.build(Plan::new(&format!("build{number}")).does("log:1")).await;
        assert_eq!(built.pod(), home, "a project stays on its pod");
    }
    let request = BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() };
    let recorded: usize = {
        let mut count = 0;
        for pod in &pods {
            let mut history =
                crate::support::user::connect(&pod.socket).await.listen_build_history(request.clone()).await.unwrap();
            while history.get_mut().message().await.unwrap().is_some() {
                count += 1;
            }
        }
        count
    };
    assert_eq!(recorded, 6, "a probe stays internal on the pod, too");
}

#[tokio::test]
async fn builds_of_one_connection_go_to_different_pods_each_with_its_calls() {
    let front = Front::new();
    let [first] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let one = tokio::spawn({
        let user = user.clone();
        async move { user.build(Plan::new("r1").does("sleep:900 context").builds("log:2")).await }
    });
    eventually("the first build", || first.seen.refs() == ["r1"]).await;
    front.pods.set("kube0-a", PodPhase::Terminating, &[]);
    let second = front.pod("kube0-b");
    let two = user.build(Plan::new("r2").does("context").builds("log:2")).await;
    assert!(first.seen.end("r1").is_none(), "a pod that is told to go keeps the build that it has");
    let one = one.await.unwrap();
    assert_eq!((one.pod(), two.pod()), ("kube0-a", "kube0-b"));
    for (pod, own, other) in [(&first, "r1", "r2"), (&second, "r2", "r1")] {
        assert_eq!((pod.seen.refs(), pod.seen.statuses()), (vec![own.to_owned()], vec![own.to_owned()]));
        assert_eq!(pod.seen.end(own), Some(End::Done));
        assert!(pod.seen.bridge(other).is_empty(), "{:?}", pod.seen);
        assert!(pod.seen.bridge(own).ends_with(&["Solve".to_owned(), "Return".to_owned()]), "{:?}", pod.seen);
    }
}

/// Which pod has each of these targets of one invocation, which say in this order what they build.
async fn baked(front: &Front, run: usize, targets: &[&str]) -> BTreeMap<String, String> {
    let user = front.user().await;
    let mut begun = Vec::new();
    for target in targets {
        let plan = Plan::new(&format!("r{run}-{target}")).option("target", target).does("sleep:50 context");
        let build = user.begin(plan);
        // Its Solve has come.
        build.ping().await.unwrap();
        begun.push(((*target).to_owned(), build));
    }
    let building = begun.into_iter().map(|(target, build)| async { (target, build.finish().await.pod().to_owned()) });
    futures::future::join_all(building).await.into_iter().collect()
}

#[tokio::test]
async fn the_targets_of_a_bake_keep_their_pods_from_run_to_run() {
    let front = Front::new();
    let _pods = front.ready_pods(["kube0-a", "kube0-b", "kube0-c", "kube0-d"]).await;
    let first = baked(&front, 0, &["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    let pods: BTreeSet<_> = first.values().collect();
    assert_eq!(pods.len(), 4, "{first:?}");
    let orders = [["h", "g", "f", "e", "d", "c", "b", "a"], ["c", "h", "a", "f", "b", "g", "e", "d"]];
    for (run, targets) in (1..).zip(&orders) {
        assert_eq!(baked(&front, run, targets).await, first, "{targets:?}");
    }
}

#[tokio::test]
async fn a_connection_that_lives_long_builds_where_a_pod_is() {
    let front = Front::new();
    let [first] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    user.build(Plan::new("r1").does("context")).await.well();
    first.kill().await;
    front.pods.end("kube0-a", "deleted");
    let _second = front.pod("kube0-b");
    let built = user.build(Plan::new("r2").does("context")).await;
    assert_eq!(built.pod(), "kube0-b");
}

#[tokio::test]
async fn a_drain_lets_the_builds_of_a_connection_come_to_their_end() {
    let front = Front::new();
    let [pod] = front.ready_pods(["kube0-a"]).await;
    let user = front.user().await;
    let driven = tokio::spawn({
        let user = user.clone();
        async move { user.build(Plan::new("r1").does("sleep:600 context").builds("sleep:300").exports(MIB)).await }
    });
    let mut control = user.control();
    let direct = tokio::spawn(async move { control.solve(solve("r2", "sleep:800")).await });
    eventually("both builds", || pod.seen.refs().len() == 2).await;
    front.shutdown.drain();
    let built = driven.await.unwrap();
    built.well();
    assert_eq!(built.given.export("0"), MIB);
    direct.await.unwrap().unwrap();
    drop(user);
    assert!(front.shutdown.finished(Duration::from_secs(10)).await, "the drain had to be forced");
}

const MIB: usize = 1 << 20;
