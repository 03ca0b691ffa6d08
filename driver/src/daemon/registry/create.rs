//! New builders, new nodes, changed nodes: all of it or nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buildfleet_proto::fleet::CreateRequest;

use super::compare::{Compared, Wishes};
use super::{Claimed, LookupError, Registry};
use crate::backend::{ApplyError, Change as ObjectChange, Obstacle};
use crate::builder::{Builder, Driver, NodeName};
use crate::daemon::entry::{BuilderEntry, NodeEntry, never_started};
use crate::daemon::front::Front;
use crate::daemon::invent;
use crate::daemon::plan::{Asked, Change, Plan, PlanError};
use crate::options::DriverOptions;
use crate::report;
use crate::settings::SocketPathError;
use crate::socket::BindError;
use crate::store::{SaveError, StoredBuilder};

/// Why nothing was created.
#[derive(Debug, thiserror::Error)]
pub(in crate::daemon) enum CreateError {
    #[error(transparent)]
    Lookup(LookupError),
    #[error(transparent)]
    Plan(PlanError),
    #[error("failed to make a socket")]
    Path(#[source] SocketPathError),
    #[error("failed to make a socket")]
    Bind(#[source] BindError),
    #[error("failed to stop the node's processes, which have to end before it changes")]
    Stop(#[source] ApplyError),
    #[error("failed to compare the node with what is in its cluster")]
    Compare(#[source] ApplyError),
    #[error("the cluster has not answered within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("{}", obstructed(obstacles, changes))]
    Obstructed { obstacles: Vec<Obstacle>, changes: Vec<ObjectChange> },
    #[error("a node of the {0} driver is not made of manifests")]
    NoManifests(Driver),
    #[error("failed to store the builder")]
    Save(#[source] SaveError),
    #[error("the search for the cluster was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// What was created, or would have been.
#[derive(Debug)]
pub(in crate::daemon) struct Created {
    pub(in crate::daemon) builder: Builder,
    /// How it runs; `None` for what was only checked.
    pub(in crate::daemon) entry: Option<Arc<BuilderEntry>>,
    pub(in crate::daemon) node: NodeName,
    pub(in crate::daemon) warnings: Vec<String>,
    /// YAML, when it was asked for.
    pub(in crate::daemon) manifests: String,
    /// What the node's next start changes.
    pub(in crate::daemon) changes: Vec<ObjectChange>,
    /// It takes up what an earlier node of its name has kept.
    pub(in crate::daemon) takes_up_state: bool,
}

impl Registry {
    /// Creates a builder, adds a node to one, or changes a node.
    pub(in crate::daemon) async fn create(self: &Arc<Self>, request: CreateRequest) -> Result<Created, CreateError> {
        let (make_current, dry_run, manifests) = (request.r#use, request.dry_run, request.manifests);
        let adopt = request.adopt;
        let wishes = Wishes { diff: request.diff, force: request.force };
        let asked = Asked::parse(request);
        let name = match &asked.builder {
            Some(name) => name.clone(),
            None if asked.append => self.builder("").map_err(CreateError::Lookup)?.builder.name.clone(),
            None => invent::builder_name(|name| self.state().builders.contains_key(name)),
        };
        // In this order: whoever waits for a builder keeps nobody else from choosing names.
        let _builder = self.claim(Claimed::Builder(name.clone())).await;
        let names = self.claim(Claimed::Names).await;
        let existing = self.state().builders.get(&name).cloned();
        let registry = Arc::clone(self);
        let known = existing.clone();
        // Kubeconfig files are read in it.
        let plan = tokio::task::spawn_blocking(move || {
            let taken = |node: &NodeName| registry.is_taken(node);
            let locate = |paths, context| registry.around.backends.locate(paths, context);
            asked.plan(name, known.as_ref().map(|entry| &entry.builder), &taken, &locate)
        });
        let mut plan = plan.await.map_err(CreateError::Interrupted)?.map_err(CreateError::Plan)?;
        let (builder, node) = (plan.builder.clone(), plan.node.name.clone());
        let mut warnings = std::mem::take(&mut plan.warnings);
        self.settings.builder_socket(&builder.name).map_err(CreateError::Path)?;
        self.settings.node_socket(&node).map_err(CreateError::Path)?;
        let rendered = match manifests {
            true => self.around.backends.manifests(&plan.node, &plan.options),
            false => Some(String::new()),
        };
        let manifests = rendered.ok_or(CreateError::NoManifests(plan.node.driver()))?;
        // A look chooses no name, and may take long.
        let _names = (!dry_run).then_some(names);
        if adopt && let Some(to) = self.of_others(&plan).await? {
            plan.adopt(to);
        }
        let builder = plan.builder.clone();
        // What only looks at manifests needs no cluster.
        let compared = match dry_run && !wishes.diff {
            true => Compared::default(),
            false => self.compare(&plan, wishes, &mut warnings).await?,
        };
        let (changes, takes_up_state) = (compared.changes, compared.state);
        if dry_run {
            return Ok(Created { builder, entry: None, node, warnings, manifests, changes, takes_up_state });
        }
        let (joining, options) = (compared.exists.then(|| plan.node.clone()), plan.options.clone());
        let entry = match existing {
            None => self.make_builder(plan).await?,
            Some(existing) if plan.change == Change::Update => self.update_node(&existing, plan, &mut warnings).await?,
            Some(existing) => self.append_node(&existing, plan).await?,
        };
        if let Some(node) = joining
            && let Err(error) = self.around.backends.join(&node, &options, &self.around.us).await
        {
            let told = report::chain(&error);
            warnings.push(format!("others that use node {} are not told that you do: {told}", node.name));
        }
        if make_current && let Err(error) = self.set_current(Some(builder.name.clone())).await {
            warnings.push(format!("builder {} is not the current one: {}", builder.name, report::chain(&error)));
        }
        Ok(Created { builder, entry: Some(entry), node, warnings, manifests, changes, takes_up_state })
    }

    fn is_taken(&self, node: &NodeName) -> bool {
        let state = self.state();
        state.reserved.contains(node) || state.builders.values().any(|entry| entry.node(node).is_some())
    }

    async fn make_builder(&self, plan: Plan) -> Result<Arc<BuilderEntry>, CreateError> {
        let path = self.settings.builder_socket(&plan.builder.name).map_err(CreateError::Path)?;
        let front = Front::open(&path, self.shutdown()).await.map_err(CreateError::Bind)?;
        let node_front = match self.open_node(&plan.node.name).await {
            Ok(node_front) => node_front,
            Err(error) => {
                front.close().await;
                return Err(error);
            }
        };
        let created = SystemTime::now();
        let stored = StoredBuilder { builder: plan.builder.clone(), created };
        if let Err(error) = self.save(stored, Some(plan.node.name.clone())).await {
            front.close().await;
            node_front.close().await;
            return Err(error);
        }
        let node = self.start(&plan, Arc::new(node_front));
        let entry = BuilderEntry { builder: plan.builder, created, nodes: vec![node], front: Arc::new(front) };
        Ok(self.install(entry))
    }

    async fn append_node(&self, existing: &BuilderEntry, plan: Plan) -> Result<Arc<BuilderEntry>, CreateError> {
        let front = self.open_node(&plan.node.name).await?;
        let stored = StoredBuilder { builder: plan.builder.clone(), created: existing.created };
        if let Err(error) = self.save(stored, Some(plan.node.name.clone())).await {
            front.close().await;
            return Err(error);
        }
        let node = self.start(&plan, Arc::new(front));
        let nodes = existing.nodes.iter().cloned().chain([node]).collect();
        Ok(self.install(BuilderEntry { builder: plan.builder, nodes, ..existing.clone() }))
    }

    async fn update_node(
        &self,
        existing: &BuilderEntry,
        plan: Plan,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<BuilderEntry>, CreateError> {
        let mut nodes = existing.nodes.clone();
        let changed = existing.builder.node(&plan.node.name) != Some(&plan.node);
        let place = nodes.iter().position(|node| node.name == plan.node.name).filter(|_| changed);
        if let Some(old) = place.map(|place| &nodes[place]).filter(|old| !old.fleet.watch().borrow().pods.is_empty()) {
            if plan.node.driver() == Driver::Local {
                // Clients may hold on to the old backend, and two of them would run on the same state.
                old.fleet.stop_pods().await.map_err(CreateError::Stop)?;
                warnings.push(format!("node {} was stopped for its new options", old.name));
            } else if plan.node.driver() == Driver::Kubernetes {
                warnings.push(format!("the pods of node {} keep their old options until it is bootstrapped", old.name));
            }
        }
        self.save(StoredBuilder { builder: plan.builder.clone(), created: existing.created }, None).await?;
        if let Some(place) = place {
            let old = Arc::clone(&nodes[place]);
            let known = match typed(&existing.builder, &old.name).and_then(|options| options.drain_timeout()) {
                // Pods that are replaced go when their builds have ended; until then, these are reached as before.
                Some(patience) => {
                    old.end_keeping().await;
                    let known = old.known();
                    self.shutdown().spawn(async move { old.retire(patience).await });
                    known
                }
                None => {
                    old.close().await;
                    old.known()
                }
            };
            let front = Arc::clone(&nodes[place].front);
            nodes[place] = NodeEntry::start(&self.around, &plan.node, &plan.options, front, known);
        }
        Ok(self.install(BuilderEntry { builder: plan.builder, nodes, ..existing.clone() }))
    }

    fn start(&self, plan: &Plan, front: Arc<Front>) -> Arc<NodeEntry> {
        NodeEntry::start(&self.around, &plan.node, &plan.options, front, never_started())
    }

    fn install(&self, entry: BuilderEntry) -> Arc<BuilderEntry> {
        entry.aim();
        for (running, node) in entry.nodes.iter().zip(&entry.builder.nodes) {
            running.fleet.expect_platforms(&node.platforms);
        }
        let entry = Arc::new(entry);
        self.publish(Arc::clone(&entry));
        entry
    }

    async fn open_node(&self, node: &NodeName) -> Result<Front, CreateError> {
        let path = self.settings.node_socket(node).map_err(CreateError::Path)?;
        Front::open(&path, self.shutdown()).await.map_err(CreateError::Bind)
    }

    /// Stores a builder. `fresh` is a node that is new: what is still known of an earlier one of its name is not its own.
    async fn save(&self, stored: StoredBuilder, fresh: Option<NodeName>) -> Result<(), CreateError> {
        let save = self.store(move |store| {
            if let Some(node) = fresh {
                store.remove_node(&node)?;
            }
            store.save_builder(&stored)
        });
        save.await.map_err(CreateError::Save)
    }
}

fn obstructed(obstacles: &[Obstacle], changes: &[ObjectChange]) -> String {
    let mut lines: Vec<String> = obstacles.iter().map(|obstacle| obstacle.what.clone()).collect();
    lines.extend(changes.iter().map(|change| format!("{}:\n{}", change.object, change.diff.trim_end())));
    lines.join("\n")
}

/// Types the options of a node that is stored, which were typed before they were stored.
pub(super) fn typed(builder: &Builder, node: &NodeName) -> Option<DriverOptions> {
    let node = builder.node(node)?;
    DriverOptions::parse(node.endpoint.driver(), &node.driver_opts).ok()
}
