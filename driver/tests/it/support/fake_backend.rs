//! Backends for a whole daemon: one set of fake pods per node, which a test reaches by the node's name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use buildfleet::backend::{
    ApplyError, Backend, DeleteError, DialError, Dialed, Installation, LogStream, LogsError, LogsWanted, Pods, Preview,
    Removal, Removed, SharedBackend,
};
use buildfleet::builder::{AttachTarget, KubeContext, Node, PodName};
use buildfleet::daemon::{Backends, Located};
use buildfleet::options::DriverOptions;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;

use super::pods::FakePods;

/// The pods of one node, and what its backend refuses.
#[derive(Debug)]
pub(crate) struct FakeNode {
    pub(crate) pods: FakePods,
    pub(crate) deleted: AtomicUsize,
    pub(crate) refuses_delete: AtomicBool,
    pub(crate) refuses_apply: AtomicBool,
    /// What is told of it before an order.
    pub(crate) preview: Mutex<Option<Preview>>,
    pub(crate) joined: AtomicUsize,
    /// What has its name and was not made by buildfleet.
    pub(crate) of_others: Mutex<Option<AttachTarget>>,
    /// Who else uses it.
    pub(crate) users: Mutex<Vec<String>>,
    pub(crate) removals: Mutex<Vec<Removal>>,
}

/// All nodes that a daemon asked for. What it made outlives the daemon, as a cluster does.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeBackends(Arc<Mutex<BTreeMap<String, Arc<FakeNode>>>>);

impl FakeBackends {
    pub(crate) fn node(&self, name: &str) -> Arc<FakeNode> {
        let fresh = || FakeNode {
            pods: FakePods::new(),
            deleted: AtomicUsize::default(),
            refuses_delete: AtomicBool::default(),
            refuses_apply: AtomicBool::default(),
            preview: Mutex::default(),
            joined: AtomicUsize::default(),
            of_others: Mutex::default(),
            users: Mutex::default(),
            removals: Mutex::default(),
        };
        Arc::clone(self.0.lock().unwrap().entry(name.to_owned()).or_insert_with(|| Arc::new(fresh())))
    }

    /// The nodes that a daemon asked for.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait::async_trait]
impl Backends for FakeBackends {
    fn start(&self, node: &Node, _options: &DriverOptions, _us: &Installation) -> SharedBackend {
        Arc::new(Shared(self.node(node.name.as_str())))
    }

    fn locate(&self, paths: Vec<PathBuf>, context: Option<String>) -> Located {
        let context = context.unwrap_or_else(|| "prod".to_owned());
        Ok((KubeContext::File { paths, context }, Some("builds".to_owned())))
    }

    async fn preview(
        &self,
        node: &Node,
        _options: &DriverOptions,
        _us: &Installation,
    ) -> Result<Option<Preview>, ApplyError> {
        Ok(self.node(node.name.as_str()).preview.lock().unwrap().clone())
    }

    async fn join(&self, node: &Node, _options: &DriverOptions, _us: &Installation) -> Result<(), ApplyError> {
        self.node(node.name.as_str()).joined.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn of_others(&self, node: &Node, _options: &DriverOptions) -> Result<Option<AttachTarget>, ApplyError> {
        Ok(self.node(node.name.as_str()).of_others.lock().unwrap().clone())
    }

    fn manifests(&self, node: &Node, _options: &DriverOptions) -> Option<String> {
        Some(format!("kind: Node\nname: {}\n", node.name))
    }
}

#[derive(Debug)]
struct Shared(Arc<FakeNode>);

#[async_trait::async_trait]
impl Backend for Shared {
    async fn apply(&self, replicas: u32) -> Result<(), ApplyError> {
        if self.0.refuses_apply.load(Ordering::SeqCst) {
            let hint = "install one".to_owned();
            return Err(ApplyError::Missing { program: "buildkitd", hint });
        }
        self.0.pods.apply(replicas).await
    }

    fn pods(&self) -> watch::Receiver<Pods> {
        self.0.pods.pods()
    }

    async fn dial(&self, pod: &PodName) -> Result<Dialed, DialError> {
        self.0.pods.dial(pod).await
    }

    async fn logs(&self, pod: &PodName, _wanted: LogsWanted) -> Result<LogStream, LogsError> {
        let line = Bytes::from(format!("said by {pod}\n"));
        Ok(futures::stream::iter([Ok(line)]).boxed())
    }

    async fn delete(&self, removal: Removal) -> Result<Removed, DeleteError> {
        self.0.removals.lock().unwrap().push(removal);
        if removal.let_go {
            return Ok(Removed::LetGo);
        }
        let users = self.0.users.lock().unwrap().clone();
        if !users.is_empty() && !removal.force {
            return Ok(Removed::Released { users });
        }
        if self.0.refuses_delete.load(Ordering::SeqCst) {
            let source = std::io::Error::other("finalizers are pending");
            return Err(DeleteError::Refused { object: "deployment builds/kube0".to_owned(), source: source.into() });
        }
        self.0.deleted.fetch_add(1, Ordering::SeqCst);
        Ok(Removed::gone())
    }
}
