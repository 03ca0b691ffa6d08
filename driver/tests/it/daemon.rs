//! The daemon through its own socket: what commands do, and what is left when they fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use buildfleet::backend::{PodPhase, StoryLine};
use buildfleet::daemon::DaemonError;
use buildfleet::daemon::hint::hints;
use buildfleet_proto::buildkit::{InfoRequest, ListWorkersRequest};
use buildfleet_proto::fleet::progress::Level;
use buildfleet_proto::fleet::{
    BootstrapRequest, CreateRequest, LeaveRequest, LogsRequest, ShutdownRequest, StopRequest, UseRequest,
    VersionRequest,
};
use tonic::Code;

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::daemon::{Home, append, kubernetes, told};
use crate::support::user::connect;

const NONE: [&str; 0] = [];

#[tokio::test]
async fn a_builder_has_a_socket_for_itself_and_one_per_node() {
    let home = Home::new();
    let mut daemon = home.start().await;
    let created = daemon.create(kubernetes("kube")).await.unwrap();
    assert_eq!(created.node, "kube0");
    daemon.create(append("kube")).await.unwrap();
    let builder = daemon.inspect("kube").await.unwrap();
    assert_eq!(builder.nodes.iter().map(|node| node.status.as_str()).collect::<Vec<_>>(), ["stopped", "stopped"]);
    assert_eq!(builder.nodes[0].endpoint, "kubernetes:///kube?deployment=kube0&context=prod");
    let mode = |path: &str| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for socket in [&builder.socket, &builder.nodes[0].socket, &builder.nodes[1].socket] {
        assert_eq!(mode(socket), 0o600, "{socket}");
        connect(socket.as_ref()).await.info(InfoRequest::default()).await.unwrap();
    }
    for directory in ["run", "run/builders", "run/nodes", "state", "state/builders", "state/nodes"] {
        assert_eq!(mode(home.path().join(directory).to_str().unwrap()), 0o700, "{directory}");
    }
    assert_eq!(mode(home.path().join("state/builders/kube.json").to_str().unwrap()), 0o600);
    for node in ["kube0", "kube1"] {
        assert_eq!(home.backends.node(node).pods.orders(), [0_u32; 0], "listing and asking starts no pod");
    }
    daemon.end().await;
    assert_eq!(home.files("run"), ["builders", "daemon.lock", "nodes"]);
    assert_eq!((home.files("run/builders"), home.files("run/nodes")), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn what_is_wrong_is_said_at_once_and_nothing_is_left_behind() {
    let home = Home::new();
    let mut daemon = home.start().await;
    let wrong = CreateRequest {
        driver_opt: vec!["replicas=many,nonsense=1".to_owned()],
        platform: vec!["arm64".to_owned()],
        ..kubernetes("kube")
    };
    let status = daemon.create(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for wanted in ["replicas", "nonsense", "`arm64`"] {
        assert!(status.message().contains(wanted), "{wanted}: {}", status.message());
    }
    let dry_run = CreateRequest { dry_run: true, r#use: true, ..kubernetes("kube") };
    assert_eq!(daemon.create(dry_run).await.unwrap().builder.unwrap().name, "kube");
    let none = daemon.create(append("kube")).await.unwrap_err();
    assert_eq!((none.code(), hints(&none).len()), (Code::NotFound, 1));
    assert!(daemon.list().await.builders.is_empty());
    for directory in ["run/builders", "run/nodes", "state/builders"] {
        assert_eq!(home.files(directory), NONE, "{directory}");
    }
    assert_eq!(home.backends.names(), NONE);
    daemon.end().await;
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_undoes_the_rest() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("first")).await.unwrap();
    let foreign = home.path().join("run/nodes/kube0.sock");
    fs::write(&foreign, "precious").unwrap();
    let status = daemon.create(kubernetes("kube")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("kube0.sock is not a socket and is not removed"), "{}", status.message());
    assert_eq!(home.files("run/builders"), ["first.sock"]);
    assert_eq!(home.files("state/builders"), ["first.json"]);
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "precious");
    fs::remove_file(&foreign).unwrap();
    daemon.create(kubernetes("kube")).await.unwrap();
    daemon.end().await;
}

#[tokio::test]
async fn names_are_invented_numbered_and_unique() {
    let home = Home::new();
    let mut daemon = home.start().await;
    let invented = daemon.create(kubernetes("")).await.unwrap().builder.unwrap();
    assert_eq!(invented.nodes[0].name, format!("{}0", invented.name));
    let named = |builder: &str, node: &str| CreateRequest { node: node.to_owned(), ..kubernetes(builder) };
    daemon.create(named("kube", "kube1")).await.unwrap();
    assert_eq!(daemon.create(append("kube")).await.unwrap().node, "kube0");
    assert_eq!(daemon.create(append("kube")).await.unwrap().node, "kube2");
    assert_eq!(daemon.create(named("other", "kube1")).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(daemon.create(kubernetes("kube")).await.unwrap_err().code(), Code::AlreadyExists);
    let misspelt = daemon.inspect("kueb").await.unwrap_err();
    assert_eq!((misspelt.code(), hints(&misspelt)), (Code::NotFound, vec!["did you mean `kube`?".to_owned()]));
    daemon.end().await;
}

#[tokio::test]
async fn creates_at_the_same_time_take_turns() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    let creating = (0..8).map(|_| {
        let mut client = daemon.client.clone();
        async move { client.create(append("kube")).await.map(|created| created.into_inner().node) }
    });
    let mut nodes: Vec<String> = futures::future::join_all(creating).await.into_iter().map(Result::unwrap).collect();
    nodes.sort();
    assert_eq!(nodes, (1..=8).map(|n| format!("kube{n}")).collect::<Vec<_>>());
    assert_eq!(daemon.inspect("kube").await.unwrap().nodes.len(), 9);
    daemon.end().await;
}

#[tokio::test]
async fn a_restarted_daemon_knows_what_it_knew() {
    let home = Home::new();
    let _buildkitd = FakeBuildkitd::start("kube0-a", home.path());
    let mut daemon = home.start().await;
    daemon.create(CreateRequest { r#use: true, ..kubernetes("kube") }).await.unwrap();
    home.backends.node("kube0").pods.run("kube0-a", &home.path().join("kube0-a.sock"));
    told(daemon.client.bootstrap(BootstrapRequest::default()).await.unwrap().into_inner()).await.unwrap();
    let before = daemon.inspect("").await.unwrap();
    assert_eq!(before.nodes[0].status, "running");
    assert!(!before.nodes[0].worker_platforms.is_empty());
    connect(before.socket.as_ref()).await.info(InfoRequest::default()).await.unwrap();
    assert!(daemon.inspect("").await.unwrap().last_activity.is_some());
    daemon.end().await;

    home.backends.node("kube0").pods.end("kube0-a", "deleted");
    let mut daemon = home.start().await;
    let after = daemon.inspect("").await.unwrap();
    assert_eq!((after.name.as_str(), after.current), ("kube", true));
    assert_eq!(after.created.unwrap().seconds, before.created.unwrap().seconds);
    assert_eq!(after.nodes[0].worker_platforms, before.nodes[0].worker_platforms);
    assert!(after.last_activity.is_some());
    let workers = connect(after.nodes[0].socket.as_ref()).await.list_workers(ListWorkersRequest::default()).await;
    assert!(!workers.unwrap().into_inner().record[0].platforms.is_empty());
    daemon.end().await;
}

#[tokio::test]
async fn bootstrap_tells_the_story_and_ends_with_it() {
    let home = Home::new();
    let _buildkitd = FakeBuildkitd::start("kube0-a", home.path());
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    let node = home.backends.node("kube0");
    let request = BootstrapRequest { builder: "kube".to_owned(), ..BootstrapRequest::default() };

    let unschedulable = [StoryLine::trouble("0/2 nodes are available")];
    node.pods.set("kube0-a", PodPhase::Pending, &unschedulable);
    let limited = BootstrapRequest { timeout_seconds: 1, ..request.clone() };
    let status = told(daemon.client.bootstrap(limited).await.unwrap().into_inner()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("kube0-a: 0/2 nodes are available"), "{}", status.message());

    let stream = daemon.client.bootstrap(request.clone()).await.unwrap().into_inner();
    node.pods.run("kube0-a", &home.path().join("kube0-a.sock"));
    let events = told(stream).await.unwrap();
    let trouble = events.iter().filter(|event| event.text == "0/2 nodes are available").count();
    assert!(trouble <= 1, "{events:#?}");
    let last = events.last().unwrap();
    assert_eq!((last.level(), last.ready, last.wanted), (Level::Ready, 1, 1));

    node.refuses_apply.store(true, Ordering::SeqCst);
    let status = told(daemon.client.bootstrap(request).await.unwrap().into_inner()).await.unwrap_err();
    assert_eq!(status.message(), "failed to start node kube0: found no `buildkitd` on this machine");
    assert_eq!(hints(&status), ["install one"]);
    daemon.end().await;
}

#[tokio::test]
async fn who_comes_late_to_a_start_that_is_stuck_is_told_where_it_stands() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    let request = BootstrapRequest { builder: "kube".to_owned(), ..BootstrapRequest::default() };
    let _first = daemon.client.bootstrap(request.clone()).await.unwrap().into_inner();
    home.backends.node("kube0").pods.set("kube0-a", PodPhase::Pending, &[StoryLine::trouble("no machine")]);
    while daemon.inspect("kube").await.unwrap().nodes[0].pods.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut late = daemon.client.bootstrap(request).await.unwrap().into_inner();
    let told = tokio::time::timeout(Duration::from_secs(2), late.message()).await.expect("nothing was said");
    assert_eq!(told.unwrap().unwrap().text, "no machine");
    daemon.end().await;
}

#[tokio::test]
async fn a_builder_that_cannot_be_removed_stays_until_it_is_forced() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(CreateRequest { r#use: true, ..kubernetes("kube") }).await.unwrap();
    daemon.create(append("kube")).await.unwrap();
    let (stuck, other) = (home.backends.node("kube0"), home.backends.node("kube1"));
    stuck.refuses_delete.store(true, Ordering::SeqCst);
    let status = daemon.remove("kube", false).await.unwrap_err();
    assert_eq!(
        status.message(),
        "failed to remove node kube0: failed to delete deployment builds/kube0: finalizers are pending"
    );
    assert_eq!((status.code(), hints(&status).len()), (Code::Unavailable, 1));
    let kept = daemon.inspect("").await.unwrap();
    for node in &kept.nodes {
        connect(node.socket.as_ref()).await.info(InfoRequest::default()).await.unwrap();
    }
    connect(kept.socket.as_ref()).await.info(InfoRequest::default()).await.unwrap();
    assert_eq!(other.deleted.load(Ordering::SeqCst), 1);

    let events = daemon.remove("kube", true).await.unwrap();
    let left = events.iter().find(|event| event.node == "kube0").unwrap();
    assert_eq!(left.level(), Level::Warning);
    assert!(left.text.starts_with("left behind: failed to delete deployment builds/kube0"), "{}", left.text);
    assert_eq!(daemon.inspect("").await.unwrap_err().code(), Code::FailedPrecondition);
    for directory in ["run/builders", "run/nodes", "state/builders", "state/nodes"] {
        assert_eq!(home.files(directory), NONE, "{directory}");
    }
    daemon.end().await;
}

#[tokio::test]
async fn a_node_leaves_but_not_the_last_one() {
    let home = Home::new();
    let mut daemon = home.start().await;
    let amd = CreateRequest { platform: vec!["linux/amd64".to_owned()], ..kubernetes("kube") };
    daemon.create(amd).await.unwrap();
    let arm = CreateRequest { platform: vec!["linux/arm64".to_owned()], ..append("kube") };
    let builder = daemon.create(arm).await.unwrap().builder.unwrap();
    let architecture = async || {
        let workers = connect(builder.socket.as_ref()).await.list_workers(ListWorkersRequest::default()).await.unwrap();
        workers.into_inner().record[0].platforms[0].architecture.clone()
    };
    assert_eq!(architecture().await, "amd64");
    let leave =
        |node: &str| LeaveRequest { builder: "kube".to_owned(), node: node.to_owned(), ..LeaveRequest::default() };
    told(daemon.client.leave(leave("kube0")).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(home.backends.node("kube0").deleted.load(Ordering::SeqCst), 1);
    assert_eq!(home.files("run/nodes"), ["kube1.sock"]);
    assert_eq!(architecture().await, "arm64", "the builder's socket is the first node's");
    for (node, code) in [("kube0", Code::NotFound), ("kube1", Code::FailedPrecondition)] {
        let status = told(daemon.client.leave(leave(node)).await.unwrap().into_inner()).await.unwrap_err();
        assert_eq!(status.code(), code, "{node}");
    }
    daemon.end().await;
}

#[tokio::test]
async fn stop_logs_use_and_version_do_as_they_say() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    let pods = &home.backends.node("kube0").pods;
    let logs = LogsRequest { node: "kube0".to_owned(), ..LogsRequest::default() };
    assert_eq!(daemon.client.logs(logs.clone()).await.unwrap_err().code(), Code::FailedPrecondition);
    for pod in ["kube0-a", "kube0-b"] {
        pods.set(pod, PodPhase::Running, &[]);
    }
    let mut chunks = told(daemon.client.logs(logs).await.unwrap().into_inner()).await.unwrap();
    chunks.sort_by(|one, other| one.pod.cmp(&other.pod));
    let said: Vec<_> = chunks.iter().map(|chunk| (chunk.pod.as_str(), chunk.data.as_slice())).collect();
    assert_eq!(said, [("kube0-a", &b"said by kube0-a\n"[..]), ("kube0-b", b"said by kube0-b\n")]);
    let nowhere = LogsRequest { node: "other".to_owned(), ..LogsRequest::default() };
    assert_eq!(daemon.client.logs(nowhere).await.unwrap_err().code(), Code::NotFound);

    let stop = StopRequest { builder: "kube".to_owned() };
    told(daemon.client.stop(stop).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(pods.orders(), [0]);

    assert_eq!(daemon.inspect("").await.unwrap_err().code(), Code::FailedPrecondition);
    daemon.client.r#use(UseRequest { builder: "Kube".to_owned() }).await.unwrap();
    assert_eq!(daemon.inspect("").await.unwrap().name, "kube");

    let version = daemon.client.version(VersionRequest {}).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.pid), (env!("CARGO_PKG_VERSION"), std::process::id()));
    daemon.end().await;
}

#[tokio::test]
async fn a_changed_node_keeps_its_socket_and_says_what_waits() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    home.backends.node("kube0").pods.set("kube0-a", PodPhase::Running, &[]);
    let changed =
        CreateRequest { node: "kube0".to_owned(), driver_opt: vec!["replicas=3".to_owned()], ..kubernetes("kube") };
    let begun = Instant::now();
    while daemon.inspect("kube").await.unwrap().nodes[0].pods.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the pod is not seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let created = daemon.create(changed).await.unwrap();
    assert_eq!(created.warnings, ["the pods of node kube0 keep their old options until it is bootstrapped"]);
    let node = &daemon.inspect("kube").await.unwrap().nodes[0];
    assert_eq!(node.driver_opts["replicas"], "3");
    connect(node.socket.as_ref()).await.info(InfoRequest::default()).await.unwrap();
    daemon.end().await;
}

#[tokio::test]
async fn a_broken_file_costs_one_builder_and_is_kept() {
    let home = Home::new();
    let mut daemon = home.start().await;
    for name in ["kube", "whole", "later"] {
        daemon.create(kubernetes(name)).await.unwrap();
    }
    daemon.end().await;
    let file = |name: &str| home.path().join(format!("state/builders/{name}.json"));
    let whole = fs::read_to_string(file("kube")).unwrap();
    let half = &whole[..whole.len() / 2];
    fs::write(file("kube"), half).unwrap();
    let unknown = fs::read_to_string(file("later")).unwrap().replace("namespace", "newoption");
    fs::write(file("later"), &unknown).unwrap();

    let mut daemon = home.start().await;
    let list = daemon.list().await;
    assert_eq!(list.builders.iter().map(|builder| builder.name.as_str()).collect::<Vec<_>>(), ["whole"]);
    assert_eq!(list.warnings.len(), 2, "{:?}", list.warnings);
    assert!(list.warnings[0].contains("kube.json"), "{:?}", list.warnings);
    assert!(list.warnings[1].contains("builder later") && list.warnings[1].contains("newoption"));
    for (name, content) in [("kube", half), ("later", unknown.as_str())] {
        let request = CreateRequest { node: "other".to_owned(), ..kubernetes(name) };
        assert!(daemon.create(request).await.unwrap_err().message().contains("is not overwritten"));
        assert_eq!(fs::read_to_string(file(name)).unwrap(), content);
    }
    assert_eq!(home.files("run/builders"), ["whole.sock"]);
    daemon.end().await;
}

#[tokio::test]
async fn one_daemon_runs_per_directory() {
    let home = Home::new();
    let daemon = home.start().await;
    assert!(matches!(home.try_start().await, Err(DaemonError::Running(_))));
    daemon.end().await;
    home.start().await.end().await;
}

#[tokio::test]
async fn a_shutdown_ends_the_waits_of_clients_and_of_the_daemon() {
    let home = Home::new();
    let mut daemon = home.start().await;
    daemon.create(kubernetes("kube")).await.unwrap();
    let request = BootstrapRequest { builder: "kube".to_owned(), ..BootstrapRequest::default() };
    let waiting = daemon.client.bootstrap(request).await.unwrap().into_inner();
    home.backends.node("kube0").pods.first_order().await;
    let begun = Instant::now();
    daemon.client.shutdown(ShutdownRequest {}).await.unwrap();
    assert_eq!(told(waiting).await.unwrap_err().message(), "the daemon is shutting down");
    daemon.serving.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_drain_has_a_deadline_and_an_abort_has_none() {
    for (abort, wanted) in [(false, Duration::from_secs(5)), (true, Duration::ZERO)] {
        let home = Home::new();
        let daemon = home.start().await;
        daemon.shutdown.spawn(std::future::pending());
        let begun = Instant::now();
        daemon.shutdown.drain();
        if abort {
            daemon.shutdown.abort();
        }
        assert!(matches!(daemon.serving.await.unwrap(), Err(DaemonError::Aborted(_))));
        assert!(
            begun.elapsed() >= wanted && begun.elapsed() < wanted + Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
    }
}
