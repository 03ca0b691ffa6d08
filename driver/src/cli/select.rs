//! `buildfleet use`: which builder is meant when none is named.

use super::failure::Failure;
use super::json::Done;
use super::output::{Format, json_line, print};
use super::{Context, buildx};

/// Make a builder the current one, here and in docker buildx
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    name: String,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut client = context.client().await?;
    client.select(&args.name).await?;
    buildx::select(context, &mut client, &args.name).await;
    match context.format {
        Format::Text => Ok(()),
        Format::Json => print(json_line(&Done { name: &args.name, result: "current" })?),
    }
}
