//! `buildfleet import`: takes builders of buildx's kubernetes and remote drivers over, whose pods go on as they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buildfleet_proto::fleet::{Builder, CreateRequest, RemoveRequest};
use buildfleet_shim::docker::Globals;
use buildfleet_shim::store::{Instance, Store};
use serde::Serialize;
use tokio::time::Instant;

use super::Context;
use super::buildx;
use super::client::Client;
use super::failure::Failure;
use super::output::{Format, json_line, print};
use super::progress::quietly;
use crate::report;
use crate::settings::Process;

pub(super) mod read;
pub(super) mod replace;

/// How long pods that run may take to say their platforms. Without them, buildx is told those that are expected.
const PLATFORMS: Duration = Duration::from_secs(5);

/// Take over builders of docker buildx's kubernetes and remote drivers: their pods and caches stay, and `export` gives them back
///
/// Each keeps its name, nodes, options, platforms and flags. In docker buildx it becomes one of `remote` nodes at our sockets.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Every builder of the kubernetes driver
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Only say what would be taken over, and what cannot be
    #[arg(long)]
    dry_run: bool,
    /// For builders that were created without $KUBECONFIG: the file to take the cluster from
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; without it, its current one at this moment
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// What is printed of one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Moved {
    name: String,
    result: &'static str,
    nodes: Vec<MovedNode>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MovedNode {
    name: String,
    endpoint: String,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let store = store()?;
    let instances = match args.all {
        true => of_kubernetes(&store, context)?,
        false => named(&store, &args.names)?,
    };
    let kubeconfig = match args.kubeconfig.map(std::path::absolute).transpose() {
        Ok(Some(path)) => vec![path],
        Ok(None) => context.settings.kubeconfig().to_vec(),
        Err(error) => return Err(Failure::usage(format!("--kubeconfig is no path: {error}"))),
    };
    let given = read::Given { kubeconfig, context: args.context.unwrap_or_default(), in_cluster: context.in_cluster() };
    let mut client = context.client().await?;
    each(context, instances, async |instance: Instance| {
        let name = instance.name.clone();
        let moved = one(&mut client, context, &store, &given, instance, args.dry_run).await;
        moved.map_err(|failure| failure.doing(format!("import builder {name}")))
    })
    .await
}

/// Takes each, and tells what became of it.
pub(super) async fn each<T>(
    context: &Context,
    all: Vec<T>,
    mut take: impl AsyncFnMut(T) -> Result<Moved, Failure>,
) -> Result<(), Failure> {
    context.each(all, async |one| tell(context, &take(one).await?)).await
}

fn tell(context: &Context, moved: &Moved) -> Result<(), Failure> {
    match context.format {
        Format::Json => print(json_line(moved)?),
        Format::Text => {
            let Moved { name, result, nodes } = moved;
            let nodes = nodes.iter().map(|node| format!("  {}  {}\n", node.name, node.endpoint));
            print(format!("{name} {result}\n{}", nodes.collect::<String>()))
        }
    }
}

/// buildx's store.
pub(super) fn store() -> Result<Store, Failure> {
    Store::find(&Process, &Globals::default())
        .ok_or_else(|| Failure::other("found no home directory, and so no builders of docker buildx"))
}

fn of_kubernetes(store: &Store, context: &Context) -> Result<Vec<Instance>, Failure> {
    let all = store.instances().map_err(|error| Failure::other(report::chain(&error)))?;
    let (found, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|instance| instance.driver == read::DRIVER);
    for other in others {
        context.info(&format!("builder {} is left to docker buildx: its driver is {}", other.name, other.driver));
    }
    Ok(found)
}

fn named(store: &Store, names: &[String]) -> Result<Vec<Instance>, Failure> {
    let one = |name: &String| match store.instance(name) {
        Ok(Some(instance)) => Ok(instance),
        Ok(None) => Err(format!("docker buildx has no builder {name} in {}", store.dir().display())),
        Err(error) => Err(report::chain(&error)),
    };
    let (found, missing): (Vec<_>, Vec<_>) = names.iter().map(one).partition(Result::is_ok);
    let missing: Vec<String> = missing.into_iter().filter_map(Result::err).collect();
    if missing.is_empty() {
        return Ok(found.into_iter().filter_map(Result::ok).collect());
    }
    Err(Failure::other(missing.join("\n")).doing("find what to import"))
}

async fn one(
    client: &mut Client,
    context: &Context,
    store: &Store,
    given: &read::Given,
    instance: Instance,
    dry_run: bool,
) -> Result<Moved, Failure> {
    if instance.is_ours(&buildx::runtime_dir(client).await?) {
        return Err(Failure::other("it is buildfleet's already: its nodes are sockets of this daemon"));
    }
    let requests = read::requests(&instance, given).map_err(|reasons| Failure::other(reasons.join("\n")))?;
    // All nodes are looked at before anything is made of one.
    let mut planned = Vec::new();
    for request in &requests {
        // Each for itself: there is no builder yet that it could be appended to.
        let look = CreateRequest { dry_run: true, append: false, ..request.clone() };
        let found =
            client.create(look).await.map_err(|failure| failure.doing(format!("look at node {}", request.node)))?;
        found.warnings.iter().for_each(|warning| context.warning(warning));
        planned.extend(found.builder.into_iter().flat_map(|builder| builder.nodes));
    }
    let nodes = planned.into_iter().map(|node| MovedNode { name: node.name, endpoint: node.endpoint }).collect();
    let name = instance.name.clone();
    if dry_run {
        return Ok(Moved { name, result: "can be imported", nodes });
    }
    let mut made = false;
    let taken = take_over(client, context, store, &instance, requests, &mut made).await;
    if let Err(failure) = taken {
        if made {
            // The pods are nobody's to remove: they were there before.
            let request = RemoveRequest { builder: name, keep_daemon: true, forget: true, ..RemoveRequest::default() };
            if let Err(failure) = quietly(client.remove(request).await).await {
                context.failed(&failure.doing("forget it again"));
            }
        }
        return Err(failure);
    }
    Ok(Moved { name, result: "imported", nodes })
}

/// `made` says whether there is anything to undo.
async fn take_over(
    client: &mut Client,
    context: &Context,
    store: &Store,
    instance: &Instance,
    requests: Vec<CreateRequest>,
    made: &mut bool,
) -> Result<(), Failure> {
    for request in requests {
        let node = request.node.clone();
        client.create(request).await.map_err(|failure| failure.doing(format!("take over node {node}")))?;
        *made = true;
    }
    let builder = with_platforms(client, &instance.name).await?;
    let (backup, ours) = (backup(context, &instance.name), replace::ours(&builder, buildx::platforms));
    let (store, instance) = (store.clone(), instance.clone());
    aside(move || replace::import(&store, &instance, &ours, &backup)).await
}

/// Changes buildx's store, whose lock buildx may hold for a while.
pub(super) async fn aside<T: Send + 'static>(
    change: impl FnOnce() -> Result<T, replace::ReplaceError> + Send + 'static,
) -> Result<T, Failure> {
    let changed = tokio::task::spawn_blocking(change).await.map_err(|error| Failure::other(error.to_string()))?;
    changed.map_err(|error| Failure::other(report::chain(&error)))
}

/// Where what buildx knew of a builder is kept for `export`.
pub(super) fn backup(context: &Context, name: &str) -> PathBuf {
    let dir: &Path = context.settings.state_dir();
    dir.join("imported").join(format!("{}.json", name.to_ascii_lowercase()))
}

/// The builder once its pods have said what they build for, or should have.
async fn with_platforms(client: &mut Client, name: &str) -> Result<Builder, Failure> {
    let until = Instant::now() + PLATFORMS;
    loop {
        let builder = client.inspect(name).await?;
        let says = |node: &buildfleet_proto::fleet::Node| {
            !node.platforms.is_empty() || !node.worker_platforms.is_empty() || node.pods.is_empty()
        };
        if builder.nodes.iter().all(says) || Instant::now() >= until {
            return Ok(builder);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Moved {
    pub(super) fn of(builder: &Builder, result: &'static str, endpoint: impl Fn(&str) -> String) -> Self {
        let node = |node: &buildfleet_proto::fleet::Node| MovedNode {
            name: node.name.clone(),
            endpoint: endpoint(&node.name),
        };
        Self { name: builder.name.clone(), result, nodes: builder.nodes.iter().map(node).collect() }
    }
}
