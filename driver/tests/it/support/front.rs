//! A node's socket, served by the proxy, with pods of the test behind it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use buildfleet::fleet::{FleetConfig, NodeFleet, Remembered};
use buildfleet::options::LoadBalance;
use buildfleet::proxy::NodeProxy;
use buildfleet::shutdown::Shutdown;
use buildfleet_proto::buildkit::SolveRequest;
use buildfleet_proto::buildkit::control_client::ControlClient;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tonic::transport::Channel;

use super::buildkitd::FakeBuildkitd;
use super::pods::FakePods;
use super::user::User;

/// A node's socket with pods behind it.
#[derive(Debug)]
pub(crate) struct Front {
    directory: TempDir,
    pub(crate) pods: Arc<FakePods>,
    pub(crate) fleet: Arc<NodeFleet>,
    pub(crate) shutdown: Shutdown,
    pub(crate) socket: PathBuf,
}

impl Front {
    pub(crate) fn new() -> Self {
        Self::with_timeout(Duration::from_secs(20))
    }

    pub(crate) fn with_timeout(timeout: Duration) -> Self {
        Self::with(timeout, true)
    }

    /// A build whose pod ends is not begun anew.
    pub(crate) fn without_retries() -> Self {
        Self::with(Duration::from_secs(20), false)
    }

    fn with(timeout: Duration, retries: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("front.sock");
        let pods = Arc::new(FakePods::new());
        let shutdown = Shutdown::new();
        let config = FleetConfig {
            node: "kube0".parse().unwrap(),
            replicas: 1,
            loadbalance: LoadBalance::Sticky,
            timeout,
            platforms: vec!["linux/arm64".parse().unwrap()],
            remembered: Remembered { stopped: true, ..Remembered::default() },
        };
        let fleet = NodeFleet::start(config, pods.clone(), shutdown.clone());
        let listener = UnixListener::bind(&socket).unwrap();
        let proxy = NodeProxy::new(Arc::clone(&fleet), Arc::default(), retries);
        let (accepting, served) = (shutdown.clone(), Arc::new(proxy));
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        let serve = buildfleet::proxy::serve(stream, Arc::clone(&served), accepting.clone());
                        accepting.spawn(serve);
                    }
                    () = accepting.draining() => return,
                }
            }
        });
        Self { directory, pods, fleet, shutdown, socket }
    }

    pub(crate) fn pod(&self, name: &str) -> FakeBuildkitd {
        let buildkitd = FakeBuildkitd::start(name, self.directory.path());
        self.pods.run(name, &buildkitd.socket);
        buildkitd
    }

    /// The pod ends, and the backend knows how.
    pub(crate) fn ends(&self, pod: FakeBuildkitd, reason: &str) {
        let name = pod.name.clone();
        drop(pod);
        self.pods.end(&name, reason);
    }

    /// Where the pods' sockets are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// So many pods, all ready.
    pub(crate) async fn ready_pods<const COUNT: usize>(&self, names: [&str; COUNT]) -> [FakeBuildkitd; COUNT] {
        let pods = names.map(|name| self.pod(name));
        let count = u32::try_from(COUNT).unwrap();
        self.fleet.watch().wait_for(|snapshot| snapshot.ready == count).await.map(drop).unwrap();
        pods
    }

    pub(crate) async fn user(&self) -> User {
        User::connect(&self.socket).await
    }

    pub(crate) async fn client(&self) -> ControlClient<Channel> {
        self.user().await.control()
    }

    /// Builds that run on each pod, as the fleet counts them.
    pub(crate) fn running(&self) -> Vec<(String, u32)> {
        let snapshot = self.fleet.watch().borrow().clone();
        snapshot.pods.iter().map(|pod| (pod.name.to_string(), pod.builds)).collect()
    }
}

/// A build whose frontend the pod runs by itself; `script` says what it does, see `buildkitd/script.rs`.
pub(crate) fn solve(r#ref: &str, script: &str) -> SolveRequest {
    SolveRequest {
        r#ref: r#ref.into(),
        session: "s1".into(),
        frontend: "dockerfile.v0".into(),
        frontend_attrs: HashMap::from([("do".to_owned(), script.to_owned())]),
        ..SolveRequest::default()
    }
}

/// Waits for what other tasks bring about.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
