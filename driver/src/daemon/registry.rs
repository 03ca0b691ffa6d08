//! The builders that there are, and whose turn it is to change one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::backends::Backends;
use super::entry::{BuilderEntry, NodeEntry, Surroundings, never_started};
use super::front::Front;
use super::installation;
use crate::builder::{BuilderName, NodeName};
use crate::options::DriverOptions;
use crate::report;
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::store::{Loaded, OpenError, SaveError, Store, StoredBuilder, StoredNode};

mod compare;
mod create;
mod remove;

pub(super) use create::CreateError;
pub(super) use remove::RemoveError;

/// Why a builder or a node was not found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error("there is no builder {name}")]
    NoBuilder { name: String, nearest: Option<String> },
    #[error("no builder is named, and none is the current one")]
    NoCurrent,
    #[error("builder {builder} has no node {node}")]
    NoNode { builder: BuilderName, node: String },
    #[error("no builder has a node {0}")]
    NodeNowhere(String),
}

impl LookupError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoBuilder { nearest, .. } => nearest.as_ref().map(|name| format!("did you mean `{name}`?")),
            Self::NoCurrent => Some("`buildfleet use NAME` makes one the current one".to_owned()),
            Self::NoNode { .. } | Self::NodeNowhere(_) => None,
        }
    }
}

/// Every builder, and what they share.
#[derive(Debug)]
pub(super) struct Registry {
    settings: Settings,
    around: Surroundings,
    state: Mutex<State>,
    /// Builders that a command changes now.
    claims: watch::Sender<BTreeSet<Claimed>>,
}

#[derive(Debug, Default)]
struct State {
    builders: BTreeMap<BuilderName, Arc<BuilderEntry>>,
    current: Option<BuilderName>,
    /// Nodes of builders that were left out: their pods may still be there.
    reserved: BTreeSet<NodeName>,
    warnings: Vec<String>,
}

/// What a command has for itself until the claim is dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claimed {
    Builder(BuilderName),
    /// The choice of names, which is across builders.
    Names,
}

#[derive(Debug)]
struct Claim {
    claims: watch::Sender<BTreeSet<Claimed>>,
    what: Claimed,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.send_modify(|claims| {
            claims.remove(&self.what);
        });
    }
}

impl Registry {
    /// Reads the store and binds the sockets of every builder in it. Starts no pod. A builder that cannot be used is left
    /// out with a warning.
    pub(super) async fn open(
        settings: Settings,
        backends: Box<dyn Backends>,
        shutdown: Shutdown,
    ) -> Result<Self, OpenError> {
        let (mut store, loaded) = Store::open(settings.state_dir())?;
        let Loaded { builders, mut nodes, current, installation, warnings } = loaded;
        let mut state = State { warnings, ..State::default() };
        let mut usable = Vec::new();
        let mut named = BTreeSet::new();
        for stored in builders {
            match options(&stored, &mut named) {
                Ok(options) => usable.push((stored, options)),
                Err(problem) => {
                    store.protect(&stored.builder.name);
                    state.leave_out(&stored, &problem);
                }
            }
        }
        // From here on the store is shared, so sockets that cannot be bound protect their builder's file beforehand.
        let mut bound = Vec::new();
        for (stored, options) in usable {
            match fronts(&settings, &shutdown, &stored).await {
                Ok(fronts) => bound.push((stored, options, fronts)),
                Err(problem) => {
                    store.protect(&stored.builder.name);
                    state.leave_out(&stored, &problem);
                }
            }
        }
        let us = installation::of(installation);
        let around = Surroundings { backends, store: Arc::new(store), shutdown, us };
        for (StoredBuilder { builder, created }, options, (front, node_fronts)) in bound {
            let entries = builder.nodes.iter().zip(options).zip(node_fronts).map(|((node, options), front)| {
                let known = nodes.remove(&node.name).unwrap_or_else(never_started);
                NodeEntry::start(&around, node, &options, Arc::new(front), known)
            });
            let entry = BuilderEntry { nodes: entries.collect(), front: Arc::new(front), builder, created };
            entry.aim();
            state.builders.insert(entry.builder.name.clone(), Arc::new(entry));
        }
        state.current = current.filter(|name| state.builders.contains_key(name));
        for warning in &state.warnings {
            tracing::warn!("{warning}");
        }
        Ok(Self { settings, around, state: Mutex::new(state), claims: watch::Sender::default() })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn backends(&self) -> &dyn Backends {
        &*self.around.backends
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.around.shutdown
    }

    /// All builders by name, and the current one.
    pub(super) fn all(&self) -> (Vec<Arc<BuilderEntry>>, Option<BuilderName>) {
        let state = self.state();
        (state.builders.values().cloned().collect(), state.current.clone())
    }

    /// What was left out when the daemon started.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// The builder of that name, or the current one when the name is empty.
    pub(super) fn builder(&self, name: &str) -> Result<Arc<BuilderEntry>, LookupError> {
        let state = self.state();
        let name = match &state.current {
            _ if !name.is_empty() => name.to_ascii_lowercase(),
            Some(current) => current.to_string(),
            None => return Err(LookupError::NoCurrent),
        };
        let found = name.parse::<BuilderName>().ok().and_then(|name| state.builders.get(&name).cloned());
        found.ok_or_else(|| {
            let nearest = nearest(&name, state.builders.keys().map(BuilderName::as_str));
            LookupError::NoBuilder { name, nearest }
        })
    }

    /// One node of a builder, or all of them when the name is empty.
    pub(super) fn nodes(&self, builder: &str, node: &str) -> Result<Vec<Arc<NodeEntry>>, LookupError> {
        let entry = self.builder(builder)?;
        if node.is_empty() {
            return Ok(entry.nodes.clone());
        }
        Ok(vec![Arc::clone(node_of(&entry, node)?)])
    }

    /// The node of that name, of any builder when none is named.
    pub(super) fn node(&self, builder: &str, node: &str) -> Result<Arc<NodeEntry>, LookupError> {
        if !builder.is_empty() {
            return node_of(&*self.builder(builder)?, node).cloned();
        }
        let (builders, _) = self.all();
        let found = builders.iter().find_map(|entry| node_of(entry, node).ok().cloned());
        found.ok_or_else(|| LookupError::NodeNowhere(node.to_owned()))
    }

    /// Makes a builder the current one.
    pub(super) async fn make_current(&self, name: &str) -> Result<(), RemoveError> {
        let entry = self.builder(name).map_err(RemoveError::Lookup)?;
        let _claim = self.claim(Claimed::Builder(entry.builder.name.clone())).await;
        let entry = self.builder(name).map_err(RemoveError::Lookup)?;
        self.set_current(Some(entry.builder.name.clone())).await.map_err(RemoveError::Save)
    }

    /// Ends what runs in this process for every builder, and forgets them; the store keeps them.
    pub(super) async fn close(&self) {
        let builders = std::mem::take(&mut self.state().builders);
        let closing = builders.values().map(|entry| async move {
            entry.front.close().await;
            for node in &entry.nodes {
                node.front.close().await;
            }
            futures::future::join_all(entry.nodes.iter().map(|node| node.close())).await;
        });
        futures::future::join_all(closing).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn to change something.
    async fn claim(&self, what: Claimed) -> Claim {
        let mut changes = self.claims.subscribe();
        loop {
            changes.mark_unchanged();
            if self.claims.send_if_modified(|claims| claims.insert(what.clone())) {
                return Claim { claims: self.claims.clone(), what };
            }
            // `self` holds a sender, so this ends by a change.
            let _ = changes.changed().await;
        }
    }

    fn publish(&self, entry: Arc<BuilderEntry>) {
        self.state().builders.insert(entry.builder.name.clone(), entry);
    }

    async fn set_current(&self, current: Option<BuilderName>) -> Result<(), SaveError> {
        let wanted = current.clone();
        self.store(move |store| store.save_current(wanted.as_ref())).await?;
        self.state().current = current;
        Ok(())
    }

    /// Runs something on the store where it may block.
    async fn store(
        &self,
        change: impl FnOnce(&Store) -> Result<(), SaveError> + Send + 'static,
    ) -> Result<(), SaveError> {
        let store = Arc::clone(&self.around.store);
        let done = tokio::task::spawn_blocking(move || change(&store)).await;
        done.unwrap_or_else(|error| Err(SaveError::Interrupted(error.to_string())))
    }
}

impl State {
    fn leave_out(&mut self, stored: &StoredBuilder, problem: &str) {
        let builder = &stored.builder;
        self.warnings.push(format!("builder {} is left out: {problem}", builder.name));
        self.reserved.extend(builder.nodes.iter().map(|node| node.name.clone()));
    }
}

fn node_of<'a>(entry: &'a BuilderEntry, node: &str) -> Result<&'a Arc<NodeEntry>, LookupError> {
    let found = node.parse::<NodeName>().ok().and_then(|name| entry.node(&name));
    found.ok_or_else(|| LookupError::NoNode { builder: entry.builder.name.clone(), node: node.to_owned() })
}

fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = names.map(|name| (strsim::jaro_winkler(wanted, name), name)).filter(|(score, _)| *score > 0.8);
    scored.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name.to_owned())
}

/// Types the options of a stored builder, whose nodes' names nobody may have had before.
fn options(stored: &StoredBuilder, named: &mut BTreeSet<NodeName>) -> Result<Vec<DriverOptions>, String> {
    let nodes = &stored.builder.nodes;
    if let Some(node) = nodes.iter().find(|node| named.contains(&node.name)) {
        return Err(format!("another builder has a node {}", node.name));
    }
    let options = nodes.iter().map(|node| DriverOptions::parse(node.endpoint.driver(), &node.driver_opts));
    let options: Result<Vec<_>, _> = options.collect();
    let options = options.map_err(|errors| errors.to_string().replace('\n', "; "))?;
    named.extend(nodes.iter().map(|node| node.name.clone()));
    Ok(options)
}

/// Binds the sockets of a stored builder: its own, and those of its nodes in order.
async fn fronts(
    settings: &Settings,
    shutdown: &Shutdown,
    stored: &StoredBuilder,
) -> Result<(Front, Vec<Front>), String> {
    let open = async |path: Result<_, _>| {
        let path: std::path::PathBuf = path.map_err(|error: crate::settings::SocketPathError| error.to_string())?;
        Front::open(&path, shutdown).await.map_err(|error| report::chain(&error))
    };
    let builder = open(settings.builder_socket(&stored.builder.name)).await?;
    let mut nodes = Vec::new();
    for node in &stored.builder.nodes {
        nodes.push(open(settings.node_socket(&node.name)).await?);
    }
    Ok((builder, nodes))
}

/// What is known of a node that is started once more after its pods are gone.
fn stopped(mut known: StoredNode) -> StoredNode {
    known.remembered.stopped = true;
    known
}
