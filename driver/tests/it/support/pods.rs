//! A backend whose pods do what a test says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use buildfleet::backend::{
    ApplyError, Backend, DeleteError, DialError, Dialed, LogStream, LogsError, LogsWanted, Pod, PodEnd, PodPhase, Pods,
    Removal, Removed, StoryLine, Transport,
};
use buildfleet::builder::PodName;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Pods that appear, change and vanish by calls of the test.
#[derive(Debug)]
pub(crate) struct FakePods {
    pods: watch::Sender<Pods>,
    sockets: Mutex<BTreeMap<PodName, PathBuf>>,
    orders: watch::Sender<Vec<u32>>,
}

impl FakePods {
    pub(crate) fn new() -> Self {
        let pods = Pods { known: true, ..Pods::default() };
        Self { pods: watch::Sender::new(pods), sockets: Mutex::default(), orders: watch::Sender::default() }
    }

    /// A pod whose `buildkitd` listens at `socket`.
    pub(crate) fn run(&self, name: &str, socket: &Path) {
        let pod: PodName = name.parse().unwrap();
        self.sockets.lock().unwrap().insert(pod.clone(), socket.to_owned());
        // What happened before belongs to its story.
        let story = self.pods.borrow().get(&pod).map(|pod| pod.story.clone()).unwrap_or_default();
        self.set(name, PodPhase::Running, &story);
    }

    /// The pod's `buildkitd` has ended, and another one runs in its place at the same socket.
    pub(crate) fn restart(&self, name: &str, reason: &str) {
        let name: PodName = name.parse().unwrap();
        self.pods.send_modify(|pods| {
            let pod = pods.pods.iter_mut().find(|pod| pod.name == name).unwrap();
            pod.incarnation += 1;
            pod.last_end = Some(PodEnd { reason: reason.to_owned(), detail: None });
        });
    }

    pub(crate) fn set(&self, name: &str, phase: PodPhase, story: &[StoryLine]) {
        let name: PodName = name.parse().unwrap();
        let pod = Pod {
            name: name.clone(),
            phase,
            incarnation: 1,
            host: Some("node-a".to_owned()),
            started: None,
            story: story.to_vec(),
            last_end: None,
        };
        self.pods.send_modify(|pods| {
            pods.applied = true;
            pods.pods.retain(|pod| pod.name != name);
            pods.pods.push(pod);
            pods.pods.sort_by(|a, b| a.name.cmp(&b.name));
        });
    }

    /// The pod is gone, and this is how.
    pub(crate) fn end(&self, name: &str, reason: &str) {
        let name: PodName = name.parse().unwrap();
        self.pods.send_modify(|pods| {
            pods.pods.retain(|pod| pod.name != name);
            pods.ended.insert(name, PodEnd { reason: reason.to_owned(), detail: None });
        });
    }

    pub(crate) fn orders(&self) -> Vec<u32> {
        self.orders.borrow().clone()
    }

    pub(crate) async fn first_order(&self) {
        self.orders.subscribe().wait_for(|orders| !orders.is_empty()).await.unwrap();
    }
}

#[async_trait::async_trait]
impl Backend for FakePods {
    async fn apply(&self, replicas: u32) -> Result<(), ApplyError> {
        self.orders.send_modify(|orders| orders.push(replicas));
        self.pods.send_modify(|pods| pods.applied = true);
        Ok(())
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.pods.subscribe()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        let socket = self.sockets.lock().unwrap().get(pod).cloned().ok_or_else(|| DialError::Gone(pod.clone()))?;
        let failed =
            |error| DialError::Failed { pod: pod.clone(), transport: Transport::Unix, source: Box::new(error) };
        let stream = UnixStream::connect(socket).await.map_err(failed)?;
        Ok(Dialed { stream: Box::new(stream), transport: Transport::Unix })
    }

    async fn logs(&self, pod: &PodName, _wanted: LogsWanted) -> Result<LogStream, LogsError> {
        Err(LogsError::Gone(pod.clone()))
    }

    async fn delete(&self, _removal: Removal) -> Result<Removed, DeleteError> {
        Ok(Removed::gone())
    }
}
