//! The ways out: nodes that leave, builders that are removed, pods that are stopped.

use std::sync::Arc;

use super::create::typed;
use super::{Claimed, LookupError, Registry, node_of, stopped};
use crate::backend::{ApplyError, DeleteError, Removal, Removed};
use crate::builder::{BuilderName, Driver, Node, NodeName};
use crate::daemon::entry::{BuilderEntry, NodeEntry};
use crate::daemon::progress::Teller;
use crate::report;
use crate::store::SaveError;

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum RemoveError {
    #[error(transparent)]
    Lookup(LookupError),
    #[error("node {node} is the last one of builder {builder}")]
    LastNode { builder: BuilderName, node: NodeName },
    #[error("{}", lines("failed to remove node", .0, |error| report::chain(error)))]
    Left(Vec<(NodeName, DeleteError)>),
    #[error("{}", lines("failed to stop node", .0, |error| report::chain(error)))]
    Running(Vec<(NodeName, ApplyError)>),
    #[error("the pods of node {0} are processes of this daemon, and nobody would be left who could stop them")]
    Inseparable(NodeName),
    #[error("failed to store the change")]
    Save(#[source] SaveError),
}

impl RemoveError {
    pub(in crate::daemon) fn hint(&self) -> Option<String> {
        match self {
            Self::Lookup(error) => error.hint(),
            Self::LastNode { builder, .. } => Some(format!("`buildfleet rm {builder}` removes the builder")),
            Self::Left(_) => Some("the builder is kept; rm --force forgets it and leaves the rest behind".to_owned()),
            Self::Running(errors) => errors.iter().find_map(|(_, error)| error.hint()),
            Self::Inseparable(_) => Some("--keep-state keeps their cache for a later node of this name".to_owned()),
            Self::Save(_) => None,
        }
    }
}

impl Registry {
    /// Removes one node of a builder with all that it has in its backend and nobody else uses. With `forget` it is
    /// forgotten although something may be left behind.
    pub(in crate::daemon) async fn leave(
        &self,
        builder: &str,
        node: &str,
        removal: Removal,
        forget: bool,
        teller: &Teller,
    ) -> Result<(), RemoveError> {
        let (_claim, entry) = self.claim_existing(builder).await?;
        let leaving = Arc::clone(node_of(&entry, node).map_err(RemoveError::Lookup)?);
        let mut rest = entry.builder.clone();
        rest.nodes.retain(|node| node.name != leaving.name);
        if rest.nodes.is_empty() {
            return Err(RemoveError::LastNode { builder: rest.name, node: leaving.name.clone() });
        }
        let nodes = entry.nodes.iter().filter(|node| node.name != leaving.name).cloned().collect();
        let entry_after = BuilderEntry { builder: rest, nodes, ..(*entry).clone() };
        // Before the pods go, so that no client starts them again; a failure brings it back.
        entry_after.aim();
        match delete(&leaving, removal, teller).await {
            Ok(()) => {}
            Err(error) if forget => left_behind(&leaving, &error, teller).await,
            Err(error) => {
                entry.aim();
                return Err(RemoveError::Left(vec![(leaving.name.clone(), error)]));
            }
        }
        let (stored, name) = (entry_after.stored(), leaving.name.clone());
        let forgotten = self.store(move |store| {
            store.save_builder(&stored)?;
            store.remove_node(&name)
        });
        if let Err(error) = forgotten.await {
            self.bring_back(&entry, &[leaving]);
            return Err(RemoveError::Save(error));
        }
        leaving.front.close().await;
        self.publish(Arc::new(entry_after));
        Ok(())
    }

    /// Removes a builder with all that its nodes have in their backend and nobody else uses. With `forget` it is
    /// forgotten although something may be left behind.
    pub(in crate::daemon) async fn remove(
        &self,
        builder: &str,
        removal: Removal,
        forget: bool,
        teller: &Teller,
    ) -> Result<(), RemoveError> {
        let (_claim, entry) = self.claim_existing(builder).await?;
        let is_local = |node: &&Node| node.driver() == Driver::Local;
        if let Some(node) = entry.builder.nodes.iter().find(is_local).filter(|_| removal.let_go) {
            return Err(RemoveError::Inseparable(node.name.clone()));
        }
        entry.front.aim(None);
        let deleting = entry.nodes.iter().map(|node| async move { (node, delete(node, removal, teller).await) });
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for (node, deleted) in futures::future::join_all(deleting).await {
            match deleted {
                Ok(()) => gone.push(Arc::clone(node)),
                Err(error) => left.push((node, error)),
            }
        }
        if !left.is_empty() && !forget {
            let left = left.into_iter().map(|(node, error)| (node.name.clone(), error)).collect();
            self.bring_back(&entry, &gone);
            return Err(RemoveError::Left(left));
        }
        for (node, error) in left {
            left_behind(node, &error, teller).await;
        }
        let name = entry.builder.name.clone();
        let nodes: Vec<NodeName> = entry.nodes.iter().map(|node| node.name.clone()).collect();
        let is_current = self.state().current.as_ref() == Some(&name);
        let forgotten = self.store(move |store| {
            store.remove_builder(&name)?;
            if is_current {
                store.save_current(None)?;
            }
            nodes.iter().try_for_each(|node| store.remove_node(node))
        });
        if let Err(error) = forgotten.await {
            self.bring_back(&entry, &entry.nodes);
            return Err(RemoveError::Save(error));
        }
        {
            let mut state = self.state();
            state.builders.remove(&entry.builder.name);
            if is_current {
                state.current = None;
            }
        }
        entry.front.close().await;
        for node in &entry.nodes {
            node.front.close().await;
        }
        Ok(())
    }

    /// Scales the nodes of a builder to zero pods.
    pub(in crate::daemon) async fn stop(&self, builder: &str, teller: &Teller) -> Result<(), RemoveError> {
        let (_claim, entry) = self.claim_existing(builder).await?;
        let stopping = entry.nodes.iter().map(|node| async move {
            let stopped = node.fleet.stop_pods().await;
            if stopped.is_ok() {
                teller.info(&node.name, "stopped".to_owned()).await;
            }
            stopped.map_err(|error| (node.name.clone(), error))
        });
        let stopped = futures::future::join_all(stopping).await;
        let errors: Vec<_> = stopped.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() { Ok(()) } else { Err(RemoveError::Running(errors)) }
    }

    /// The builder, looked up again once nobody else changes it.
    async fn claim_existing(&self, builder: &str) -> Result<(super::Claim, Arc<BuilderEntry>), RemoveError> {
        let name = self.builder(builder).map_err(RemoveError::Lookup)?.builder.name.clone();
        let claim = self.claim(Claimed::Builder(name.clone())).await;
        let entry = self.builder(name.as_str()).map_err(RemoveError::Lookup)?;
        Ok((claim, entry))
    }

    /// Starts the fleets of nodes whose pods are gone once more, because their builder stays.
    fn bring_back(&self, entry: &BuilderEntry, gone: &[Arc<NodeEntry>]) {
        let again = |node: &Arc<NodeEntry>| {
            let stored = entry.builder.node(&node.name).zip(typed(&entry.builder, &node.name));
            match stored {
                Some((stored, options)) if gone.iter().any(|gone| gone.name == node.name) => {
                    let known = stopped(node.known());
                    NodeEntry::start(&self.around, stored, &options, Arc::clone(&node.front), known)
                }
                _ => Arc::clone(node),
            }
        };
        let entry = BuilderEntry { nodes: entry.nodes.iter().map(again).collect(), ..entry.clone() };
        entry.aim();
        self.publish(Arc::new(entry));
    }
}

/// Ends what runs for a node that is forgotten with something of it still there.
async fn left_behind(node: &NodeEntry, error: &DeleteError, teller: &Teller) {
    teller.warning(&node.name, format!("left behind: {}", report::chain(error))).await;
    node.close().await;
}

/// Removes what a node has in its backend; on failure everything is as before.
async fn delete(node: &NodeEntry, removal: Removal, teller: &Teller) -> Result<(), DeleteError> {
    node.front.aim(None);
    match node.fleet.delete(removal).await {
        Ok(removed) => {
            node.end_keeping().await;
            match removed {
                Removed::Gone { kept } if kept.is_empty() => teller.info(&node.name, "removed".to_owned()).await,
                Removed::Gone { kept } => {
                    let text = format!(
                        "removed, but for its state, which a later node {} takes up: {}",
                        node.name,
                        kept.join(", ")
                    );
                    teller.info(&node.name, text).await;
                }
                Removed::LetGo => teller.info(&node.name, "let go: its pods stay as they are".to_owned()).await,
                Removed::Released { users } if users.is_empty() => {
                    teller.info(&node.name, "detached: its pods are not buildfleet's, and stay".to_owned()).await;
                }
                Removed::Released { users } => {
                    let text = format!(
                        "its pods stay, because others use them: {}; rm --force would have removed them",
                        users.join(", ")
                    );
                    teller.warning(&node.name, text).await;
                }
            }
            Ok(())
        }
        Err(error) => {
            node.front.aim(Some(node.target()));
            Err(error)
        }
    }
}

fn lines<E>(what: &str, errors: &[(NodeName, E)], chain: impl Fn(&E) -> String) -> String {
    let lines = errors.iter().map(|(node, error)| format!("{what} {node}: {}", chain(error)));
    lines.collect::<Vec<_>>().join("\n")
}
