//! A builder and its nodes as they run: sockets, fleets, and what is written down about them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backends::Backends;
use super::front::{Activity, Front, Target};
use super::owned::Owned;
use super::presence;
use crate::backend::Installation;
use crate::builder::{Builder, Node, NodeName};
use crate::fleet::{FleetConfig, NodeFleet, NodeSnapshot, Remembered};
use crate::options::DriverOptions;
use crate::proxy::{Finished, FinishedBuilds, NodeProxy};
use crate::report;
use crate::shutdown::Shutdown;
use crate::store::{Store, StoredBuilder, StoredNode};

/// The time of the last use is written down at most this often.
const ACTIVITY: Duration = Duration::from_secs(60);

/// Builds that have ended are written down at most this often: a bake ends many at once.
const FINISHED: Duration = Duration::from_secs(1);

/// What every node needs.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) backends: Box<dyn Backends>,
    pub(super) store: Arc<Store>,
    pub(super) shutdown: Shutdown,
    /// Who we are to others that use the same objects.
    pub(super) us: Installation,
}

/// A builder as it is now. A change makes another value; nodes and sockets are shared by both.
#[derive(Debug, Clone)]
pub(super) struct BuilderEntry {
    pub(super) builder: Builder,
    pub(super) created: SystemTime,
    /// In the order of `builder.nodes`.
    pub(super) nodes: Vec<Arc<NodeEntry>>,
    pub(super) front: Arc<Front>,
}

impl BuilderEntry {
    pub(super) fn node(&self, name: &NodeName) -> Option<&Arc<NodeEntry>> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    pub(super) fn stored(&self) -> StoredBuilder {
        StoredBuilder { builder: self.builder.clone(), created: self.created }
    }

    pub(super) fn last_activity(&self) -> Option<SystemTime> {
        self.nodes.iter().filter_map(|node| *node.activity.borrow()).max()
    }

    /// Sends connections of the builder's socket to its first node.
    pub(super) fn aim(&self) {
        self.front.aim(self.nodes.first().map(|node| node.target()));
    }
}

/// A node as it runs.
#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) name: NodeName,
    pub(super) fleet: Arc<NodeFleet>,
    proxy: Arc<NodeProxy>,
    pub(super) front: Arc<Front>,
    pub(super) since: Instant,
    activity: Arc<Activity>,
    keeper: Owned,
    presence: Owned,
}

impl NodeEntry {
    /// Starts to follow the node's pods and sends its socket's connections there. Starts no pod.
    pub(super) fn start(
        around: &Surroundings,
        node: &Node,
        options: &DriverOptions,
        front: Arc<Front>,
        known: StoredNode,
    ) -> Arc<Self> {
        let config = FleetConfig {
            node: node.name.clone(),
            replicas: options.replicas(),
            loadbalance: options.loadbalance(),
            timeout: options.timeout(),
            platforms: node.platforms.clone(),
            remembered: known.remembered.clone(),
        };
        let backend = around.backends.start(node, options, &around.us);
        let fleet = NodeFleet::start(config, backend, around.shutdown.clone());
        let activity = Arc::new(Activity::new(known.last_activity));
        let finished = Arc::new(Finished::new(known.finished.clone()));
        let keeping = Keeping {
            node: node.name.clone(),
            store: Arc::clone(&around.store),
            snapshots: fleet.watch(),
            activity: activity.subscribe(),
            finished: finished.watch(),
            written: known,
            rested: Instant::now(),
        };
        let keeper = Owned::spawn(|stop| keeping.run(stop));
        let (noted, snapshots) = (Arc::clone(fleet.backend()), fleet.watch());
        let note = move || {
            let backend = Arc::clone(&noted);
            async move { backend.note_use().await }
        };
        let presence = Owned::spawn(|stop| presence::follow(node.name.clone(), note, snapshots, stop));
        let proxy = Arc::new(NodeProxy::new(Arc::clone(&fleet), finished, options.retry()));
        let (name, since) = (node.name.clone(), Instant::now());
        let entry = Arc::new(Self { name, fleet, proxy, front, since, activity, keeper, presence });
        entry.front.aim(Some(entry.target()));
        entry
    }

    pub(super) fn target(&self) -> Target {
        Target { node: self.name.clone(), proxy: Arc::clone(&self.proxy), activity: Arc::clone(&self.activity) }
    }

    pub(super) fn socket(&self) -> &Path {
        self.front.path()
    }

    /// What would be known after a restart of the daemon.
    pub(super) fn known(&self) -> StoredNode {
        StoredNode {
            remembered: self.fleet.watch().borrow().remembered.clone(),
            last_activity: *self.activity.borrow(),
            finished: self.proxy.finished().watch().borrow().clone(),
        }
    }

    /// Writes nothing down any more, here or where the pods are.
    pub(super) async fn end_keeping(&self) {
        self.presence.end().await;
        self.keeper.end().await;
    }

    /// As [`NodeEntry::close`], once the builds that run have ended or `patience` has. The socket is another's already.
    pub(super) async fn retire(&self, patience: Duration) {
        let idle = |snapshot: &NodeSnapshot| snapshot.pods.iter().all(|pod| pod.builds == 0);
        let _ = tokio::time::timeout(patience, self.fleet.watch().wait_for(idle)).await;
        self.fleet.close().await;
    }

    /// Ends all that runs for the node in this process; its pods stay, unless they are of this process.
    pub(super) async fn close(&self) {
        self.front.aim(None);
        self.end_keeping().await;
        self.fleet.close().await;
    }
}

/// What is known of a node whose pods were never started.
pub(super) fn never_started() -> StoredNode {
    StoredNode { remembered: Remembered { stopped: true, ..Remembered::default() }, ..StoredNode::default() }
}

/// Writes down what is worth to outlive the daemon, when it changes.
#[derive(Debug)]
struct Keeping {
    node: NodeName,
    store: Arc<Store>,
    snapshots: watch::Receiver<NodeSnapshot>,
    activity: watch::Receiver<Option<SystemTime>>,
    finished: watch::Receiver<FinishedBuilds>,
    written: StoredNode,
    /// From then on finished builds may be written down again.
    rested: Instant,
}

impl Keeping {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let wanted = self.wanted();
            let remembered = wanted.remembered != self.written.remembered;
            let since =
                |last: Option<SystemTime>| Some(wanted.last_activity?.duration_since(last?).unwrap_or_default());
            let active = wanted.last_activity.is_some()
                && since(self.written.last_activity).is_none_or(|elapsed| elapsed >= ACTIVITY);
            let mut due = (wanted.finished != self.written.finished).then_some(self.rested);
            if remembered || active || due.is_some_and(|due| due <= Instant::now()) {
                self.write(wanted).await;
                due = None;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = self.snapshots.changed() => {}
                Ok(()) = self.activity.changed() => {}
                Ok(()) = self.finished.changed() => {}
                () = tokio::time::sleep_until(due.unwrap_or(self.rested)), if due.is_some() => {}
                else => break,
            }
        }
        let wanted = self.wanted();
        if wanted != self.written {
            self.write(wanted).await;
        }
    }

    fn wanted(&mut self) -> StoredNode {
        let remembered = self.snapshots.borrow_and_update().remembered.clone();
        let finished = self.finished.borrow_and_update().clone();
        StoredNode { remembered, last_activity: *self.activity.borrow_and_update(), finished }
    }

    async fn write(&mut self, wanted: StoredNode) {
        let (store, node) = (Arc::clone(&self.store), self.node.clone());
        self.written = wanted.clone();
        self.rested = Instant::now() + FINISHED;
        let saved = tokio::task::spawn_blocking(move || store.save_node(&node, &wanted)).await;
        match saved {
            Ok(Ok(())) => {}
            // The next change is the next try; nothing that a user gave is lost.
            Ok(Err(error)) => {
                tracing::warn!(node = %self.node, error = report::chain(&error), "failed to remember a node");
            }
            Err(error) => tracing::error!(node = %self.node, %error, "the writing of a node was interrupted"),
        }
    }
}
