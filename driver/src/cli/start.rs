//! `buildfleet start`, and the same for `create --bootstrap` and `inspect --bootstrap`: starts pods and waits for them.

use super::Context;
use super::client::{Client, called};
use super::failure::Failure;
use super::json::Done;
use super::output::{Format, json_line, print};
use super::progress::follow_or_interrupt;

/// Start a builder's pods and wait until they are ready
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    name: Option<String>,
    /// Only the pods of this node
    #[arg(long)]
    node: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let name = client.inspect(&context.builder(args.name)).await?.name;
    bootstrap(&mut client, context, &name, args.node.as_deref().unwrap_or_default()).await?;
    match context.format {
        Format::Text => Ok(()),
        Format::Json => print(json_line(&Done { name: &name, result: "started" })?),
    }
}

/// Starts the pods of `node`, or of every node when it is empty, and waits until all are ready.
pub(super) async fn bootstrap(
    client: &mut Client,
    context: &Context,
    builder: &str,
    node: &str,
) -> Result<(), Failure> {
    let result = match client.bootstrap(builder, node, 0).await {
        Ok(stream) => follow_or_interrupt(stream, context.progress).await,
        Err(failure) => Err(failure),
    };
    result.map_err(|failure| {
        let interrupted = failure.is_interrupted();
        let failure = failure.doing(format!("start {}", called(builder)));
        if interrupted {
            failure
                .hint(format!("its pods go on starting; follow them with `buildfleet start {builder}`"))
                .hint(format!("stop them with `buildfleet stop {builder}`"))
        } else {
            failure
        }
    })
}
