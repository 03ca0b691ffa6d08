//! `buildfleet job cancel` and `rm`: Jobs out of the cluster, with their pods and Secrets.

use buildfleet_proto::fleet::RemoveJobRequest;

use super::one::place;
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::json::Done;
use crate::cli::objects::Cluster;
use crate::cli::output::{Format, json_line, print};

pub(super) async fn cancel(names: Vec<String>, cluster: &Cluster, context: &Context) -> Result<(), Failure> {
    let request = RemoveJobRequest { only_running: true, ..RemoveJobRequest::default() };
    each(names, cluster, context, &request, "cancel", "canceled").await
}

pub(super) async fn rm(names: Vec<String>, cluster: &Cluster, force: bool, context: &Context) -> Result<(), Failure> {
    let request = RemoveJobRequest { only_finished: !force, ..RemoveJobRequest::default() };
    each(names, cluster, context, &request, "remove", "removed").await
}

async fn each(
    names: Vec<String>,
    cluster: &Cluster,
    context: &Context,
    request: &RemoveJobRequest,
    verb: &str,
    result: &str,
) -> Result<(), Failure> {
    let client = context.client().await?;
    context
        .each(names, async |name| {
            let place = Some(place(&name, cluster, context)?);
            let request = RemoveJobRequest { place, ..request.clone() };
            let removed = client.clone().remove_job(request).await;
            removed.map_err(|failure| failure.doing(format!("{verb} job {name}")))?;
            match context.format {
                Format::Text => print(format!("{name}\n")),
                Format::Json => print(json_line(&Done { name: &name, result })?),
            }
        })
        .await
}
