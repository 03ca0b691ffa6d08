//! `buildfleet stop`: scales a builder to zero pods.

use super::Context;
use super::client::called;
use super::failure::Failure;
use super::json::Done;
use super::output::{Format, json_line, print};
use super::progress::follow_or_interrupt;

/// Stop a builder's pods; the next build starts them again
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    name: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let name = client.inspect(&context.builder(args.name)).await?.name;
    let stopped = match client.stop(&name).await {
        Ok(stream) => follow_or_interrupt(stream, context.progress).await,
        Err(failure) => Err(failure),
    };
    stopped.map_err(|failure| failure.doing(format!("stop {}", called(&name))))?;
    match context.format {
        Format::Text => Ok(()),
        Format::Json => print(json_line(&Done { name: &name, result: "stopped" })?),
    }
}
