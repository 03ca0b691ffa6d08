//! A node's socket, served by the proxy, with pods of the test behind it.

use std::collections::HashMap;
use std::path::PathBuf;
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
use super::user::connect;

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
        let proxy = NodeProxy::new(Arc::clone(&fleet), Arc::default(), true);
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

    pub(crate) async fn client(&self) -> ControlClient<Channel> {
        connect(&self.socket).await
    }
}

pub(crate) fn solve(frontend: &str) -> SolveRequest {
    SolveRequest { r#ref: "r1".into(), session: "s1".into(), frontend: frontend.into(), ..SolveRequest::default() }
}

pub(crate) fn context(mib: usize) -> SolveRequest {
    SolveRequest { frontend_attrs: HashMap::from([("mib".to_owned(), mib.to_string())]), ..solve("context") }
}

/// Waits for what other tasks bring about.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
