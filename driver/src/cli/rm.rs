//! `buildfleet rm`: removes builders with all that they have in their cluster.

use buildfleet_proto::fleet::{Builder, RemoveRequest};

use super::client::{Client, called};
use super::failure::Failure;
use super::json::Done;
use super::output::{Format, json_line, print};
use super::progress::follow_or_interrupt;
use super::{Context, buildx};

/// Remove builders with their pods, here and in docker buildx
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(required_unless_present_any = ["all", "all_inactive"])]
    names: Vec<String>,
    /// Every builder
    #[arg(long, conflicts_with_all = ["names", "all_inactive"])]
    all: bool,
    /// Every builder without a pod that runs or is on its way
    #[arg(long, conflicts_with = "names")]
    all_inactive: bool,
    /// Remove what others use, too, and forget a builder although its cluster cannot be reached or refuses to delete its pods
    #[arg(long, short)]
    force: bool,
    /// Keep the volumes of the pods, which a later builder with the same nodes takes up again
    #[arg(long)]
    keep_state: bool,
    /// Only let go of a builder: its pods and all that belongs to them stay in the cluster and run
    #[arg(long)]
    keep_daemon: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let names = if args.all || args.all_inactive {
        let builders = client.list().await?.into_iter();
        builders.filter(|builder| args.all || is_inactive(builder)).map(|builder| builder.name).collect()
    } else {
        args.names
    };
    let (force, keep_state, keep_daemon) = (args.force, args.keep_state, args.keep_daemon);
    let request = |builder| RemoveRequest { builder, force, keep_state, forget: force, keep_daemon };
    context.each(names, async |name| remove(&mut client, context, request(name)).await).await
}

/// A node in trouble is not: its pods may run where nobody sees them now.
pub(super) fn is_inactive(builder: &Builder) -> bool {
    builder.nodes.iter().all(|node| matches!(node.status.as_str(), "inactive" | "stopped"))
}

/// Removes a builder here and in docker buildx.
pub(super) async fn take_away(client: &mut Client, context: &Context, request: RemoveRequest) -> Result<(), Failure> {
    let name = request.builder.clone();
    let stream = client.remove(request).await?;
    follow_or_interrupt(stream, context.progress).await?;
    buildx::forget(context, client, &name).await;
    Ok(())
}

async fn remove(client: &mut Client, context: &Context, request: RemoveRequest) -> Result<(), Failure> {
    let name = &request.builder.clone();
    if let Err(failure) = take_away(client, context, request).await {
        return Err(client.with_what_there_is(failure.doing(format!("remove {}", called(name)))).await);
    }
    match context.format {
        Format::Text => context.said(&format!("{name} removed")),
        Format::Json => print(json_line(&Done { name, result: "removed" })?)?,
    }
    Ok(())
}
