//! The list of a node's local pods, as their supervisors tell it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::backend::{Pod, PodEnd, Pods};
use crate::builder::PodName;

/// A handle for supervisors; all handles write to one list.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    pods: Arc<watch::Sender<Pods>>,
}

impl Publisher {
    /// Nothing runs before `apply`: children never outlive their daemon, so this is known and not guessed.
    pub(super) fn new() -> Self {
        Self { pods: Arc::new(watch::Sender::new(Pods { known: true, ..Pods::default() })) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Pods> {
        self.pods.subscribe()
    }

    pub(super) fn applied(&self, applied: bool) {
        self.pods.send_if_modified(|pods| std::mem::replace(&mut pods.applied, applied) != applied);
    }

    /// Adds the pod, or replaces what was known of it.
    pub(super) fn put(&self, pod: Pod) {
        self.pods.send_modify(|pods| match pods.pods.binary_search_by(|other| other.name.cmp(&pod.name)) {
            Ok(at) => pods.pods[at] = pod,
            Err(at) => {
                pods.ended.remove(&pod.name);
                pods.pods.insert(at, pod);
            }
        });
    }

    pub(super) fn remove(&self, name: &PodName, end: PodEnd) {
        self.pods.send_modify(|pods| {
            pods.pods.retain(|pod| pod.name != *name);
            // Bounded: a node has as many names as it ever had replicas.
            pods.ended.insert(name.clone(), end);
        });
    }
}
