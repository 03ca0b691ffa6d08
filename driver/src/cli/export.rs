//! `buildfleet export`: gives builders to docker buildx's kubernetes and remote drivers, with the pods that they have.

use std::path::Path;

use buildfleet_proto::fleet::{Builder, RemoveRequest};
use buildfleet_shim::store::Store;
use serde_json::Value;

use super::Context;
use super::buildx::runtime_dir;
use super::client::Client;
use super::failure::Failure;
use super::import::read::REMOTE;
use super::import::{Moved, aside, backup, each, replace, store};
use super::progress::quietly;
use crate::report;

mod compose;

/// Give builders to docker buildx's own kubernetes and remote drivers; their pods and caches stay, and this daemon forgets them
///
/// One that was imported becomes what it was. Options that docker buildx does not know are left out, and named.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Every builder of which all nodes are of the kubernetes driver, or all of the remote one
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Only say what would be given, and what cannot be
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let store = store()?;
    let mut client = context.client().await?;
    let mut builders = Vec::new();
    if args.all {
        for builder in client.list().await? {
            if [compose::DRIVER, REMOTE].contains(&builder.driver.as_str()) {
                builders.push(builder);
            } else {
                context.info(&format!(
                    "builder {} stays: docker buildx has no driver for {}",
                    builder.name, builder.driver
                ));
            }
        }
    }
    for name in &args.names {
        builders.push(client.inspect(name).await?);
    }
    each(context, builders, async |builder: Builder| {
        let moved = one(&mut client, context, &store, &builder, args.dry_run).await;
        moved.map_err(|failure| failure.doing(format!("export builder {}", builder.name)))
    })
    .await
}

async fn one(
    client: &mut Client,
    context: &Context,
    store: &Store,
    builder: &Builder,
    dry_run: bool,
) -> Result<Moved, Failure> {
    let kept = backup(context, &builder.name);
    let before = read(&kept)?;
    let composed = compose::compose(builder, before.as_deref(), context.settings.kubeconfig());
    let compose::Composed { text, warnings } = composed.map_err(|reasons| Failure::other(reasons.join("\n")))?;
    warnings.iter().for_each(|warning| context.warning(warning));
    check_place(client, store, builder).await?;
    let endpoints: Value = serde_json::from_slice(&text).unwrap_or_default();
    let endpoint = |name: &str| {
        let nodes = endpoints["Nodes"].as_array().into_iter().flatten();
        let node = nodes.into_iter().find(|node| node["Name"] == name);
        node.and_then(|node| node["Endpoint"].as_str()).unwrap_or_default().to_owned()
    };
    if dry_run {
        return Ok(Moved::of(builder, "can be exported", endpoint));
    }
    let ours = put(store, &builder.name, Some(text)).await?;
    let let_go = RemoveRequest { builder: builder.name.clone(), keep_daemon: true, ..RemoveRequest::default() };
    if let Err(failure) = quietly(client.remove(let_go).await).await {
        // Both would use the same pods, and neither know of the other.
        if let Err(error) = put(store, &builder.name, ours).await {
            context.failed(&error);
        }
        return Err(failure);
    }
    // A later one of its name is another one.
    let _ = std::fs::remove_file(kept);
    Ok(Moved::of(builder, "exported", endpoint))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::other(format!("failed to read {}: {error}", path.display()))),
    }
}

/// Whatever buildx has by this name has to be this builder.
async fn check_place(client: &mut Client, store: &Store, builder: &Builder) -> Result<(), Failure> {
    let runtime_dir = runtime_dir(client).await?;
    match store.instance(&builder.name).map_err(|error| Failure::other(report::chain(&error)))? {
        Some(theirs) if !theirs.is_ours(&runtime_dir) => Err(Failure::other(format!(
            "docker buildx has another builder of that name, with the {} driver",
            theirs.driver
        ))),
        _ => Ok(()),
    }
}

async fn put(store: &Store, name: &str, text: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Failure> {
    let (store, name) = (store.clone(), name.to_owned());
    aside(move || replace::put(&store, &name, text.as_deref())).await
}
