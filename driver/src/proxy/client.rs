//! One client connection: whose it is, and where its builds went.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buildfleet_proto::buildkit::Definition;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::NodeProxy;
use super::clues::Peer;
use super::fanout::Archive;
use super::outcome::status_of;
use super::turns::Turns;
use crate::builder::PodName;
use crate::fleet::Lease;
use crate::placement::Placing;
use crate::shutdown::Shutdown;
use crate::wire::Status;

/// Graphs of which a client may start other builds. A bake has a few dozen.
const OUTPUTS: usize = 4096;

/// The builds of one invocation begin within this time, or while others of it run.
const TOGETHER: Duration = Duration::from_secs(2);

/// Shared by the calls of one client connection.
#[derive(Debug)]
pub(super) struct Client {
    id: u64,
    node: Arc<NodeProxy>,
    shutdown: Shutdown,
    peer: Peer,
    turns: Turns,
    invocation: Mutex<Invocation>,
}

/// What the builds of one connection have to do with each other.
#[derive(Debug, Default)]
struct Invocation {
    /// The builds that were placed and run, or have just ended; without internal ones.
    builds: Vec<Sibling>,
    /// Of each graph that a build gave back: the vertex that it is about, and the pod that has its result.
    outputs: HashMap<u64, PodName>,
    latest: Option<PodName>,
}

/// A build as the others of its connection see it.
#[derive(Debug)]
struct Sibling {
    reference: String,
    pod: PodName,
    ended: Option<Instant>,
}

impl Sibling {
    /// Whether it is of the same invocation as one that begins now: a client that builds one thing after the other should
    /// not be sent from pod to pod.
    fn counts(&self) -> bool {
        self.ended.is_none_or(|ended| ended.elapsed() < TOGETHER)
    }
}

impl Client {
    pub(super) fn new(stream: &UnixStream, node: Arc<NodeProxy>, shutdown: Shutdown) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let peer = pid.map(Peer::of).unwrap_or_default();
        Self { id, node, shutdown, peer, turns: Turns::default(), invocation: Mutex::default() }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn node(&self) -> &Arc<NodeProxy> {
        &self.node
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// A pod for a build. One at a time, so that each is chosen beside all that were chosen before it.
    pub(super) async fn place(&self, mut placing: Placing, begun: Instant) -> Result<Lease, Status> {
        let unplaced = || self.node.builds().unplaced(self.id);
        let _turn = self.turns.take(&placing.part, &placing.build_ref, unplaced).await;
        {
            let invocation = self.invocation();
            let others = invocation.builds.iter().filter(|other| other.reference != placing.build_ref);
            placing.siblings = others.filter(|other| other.counts()).map(|other| other.pod.clone()).collect();
        }
        let lease = self.node.fleet().acquire(&placing, begun).await.map_err(|error| status_of(&error))?;
        let mut invocation = self.invocation();
        invocation.latest = Some(lease.pod().clone());
        if !placing.internal {
            invocation.builds.retain(|other| other.counts() && other.reference != placing.build_ref);
            invocation.builds.push(Sibling { reference: placing.build_ref, pod: lease.pod().clone(), ended: None });
        }
        Ok(lease)
    }

    pub(super) fn ended(&self, reference: &str) {
        let mut invocation = self.invocation();
        for build in invocation.builds.iter_mut().filter(|build| build.reference == reference) {
            build.ended = Some(Instant::now());
        }
    }

    /// A pod for a call that is no part of a build: that of the latest build, or else any.
    pub(super) async fn any_pod(&self) -> Result<Lease, Status> {
        let latest = self.invocation().latest.clone();
        if let Some(lease) = latest.and_then(|pod| self.node.fleet().visit(&pod)) {
            return Ok(lease);
        }
        let placing = Placing { internal: true, ..Placing::default() };
        self.node.fleet().acquire(&placing, Instant::now()).await.map_err(|error| status_of(&error))
    }

    /// Whether a pod has something of this client.
    pub(super) fn has_pod(&self) -> bool {
        let latest = self.invocation().latest.clone();
        latest.is_some_and(|pod| self.node.fleet().visit(&pod).is_some())
    }

    /// What the node's pods keep of what they did.
    pub(super) fn archive(&self) -> Archive<'_> {
        let NodeProxy { fleet, finished, builds, .. } = &*self.node;
        Archive { fleet, finished, builds, shutdown: &self.shutdown }
    }

    /// A build gave a graph back, from which another one may start.
    pub(super) fn gave_back(&self, graph: &Definition, pod: &PodName) {
        let mut invocation = self.invocation();
        if let Some(vertex) = result_of(graph)
            && invocation.outputs.len() < OUTPUTS
        {
            invocation.outputs.insert(vertex, pod.clone());
        }
    }

    /// The pod that has what one of these graphs is about; else, when there are graphs, that of the latest build.
    pub(super) fn linked<'a>(&self, mut graphs: impl Iterator<Item = &'a Definition>) -> Option<PodName> {
        let invocation = self.invocation();
        let first = graphs.next()?;
        let known = |graph: &Definition| invocation.outputs.get(&result_of(graph)?).cloned();
        known(first).or_else(|| graphs.find_map(known)).or_else(|| Some(invocation.builds.last()?.pod.clone()))
    }

    fn invocation(&self) -> MutexGuard<'_, Invocation> {
        self.invocation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The vertex that a graph is about. Marshalled graphs end with a pointer to it (`client/llb/marshal.go`, v0.33), and the
/// vertex itself stands before: unlike the ones before that, two builds do not share it by chance.
fn result_of(graph: &Definition) -> Option<u64> {
    let [.., vertex, _pointer] = &graph.def[..] else { return None };
    let mut hasher = DefaultHasher::new();
    vertex.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_known_by_its_last_vertex() {
        let graph = |def: &[&[u8]]| Definition { def: def.iter().map(|op| op.to_vec()).collect() };
        let one = result_of(&graph(&[b"alpine", b"run a", b"pointer"]));
        assert_eq!(one, result_of(&graph(&[b"other", b"run a", b"another pointer"])));
        assert_ne!(one, result_of(&graph(&[b"alpine", b"run b", b"pointer"])));
        assert_eq!(result_of(&graph(&[b"pointer"])), None);
        assert_eq!(result_of(&graph(&[])), None);
    }
}
