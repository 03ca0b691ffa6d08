//! `buildfleet job attach` and `wait`: a Job that is there, followed to its end.

use buildfleet_proto::fleet::{FollowJobRequest, JobPlace};

use super::args::{OneArgs, ProgressKind, View};
use super::follow::{Followed, Outcome, verdict};
use super::show::{EndView, Show};
use crate::cli::Context;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::objects::Cluster;
use crate::cli::output::{Format, json_line, print};
use crate::cli::progress::interrupts;

/// Where a Job is.
pub(super) fn place(name: &str, cluster: &Cluster, context: &Context) -> Result<JobPlace, Failure> {
    Ok(JobPlace {
        kubeconfig: cluster.kubeconfig(context)?,
        namespace: cluster.namespace.clone().unwrap_or_default(),
        name: name.to_owned(),
    })
}

pub(super) async fn attach(args: OneArgs, view: View, context: &Context) -> Result<(), Failure> {
    let place = place(&args.name, &args.cluster, context)?;
    let client = context.client().await?;
    attached(client, place, view.progress, context).await
}

/// Follows a Job from its beginning; Ctrl-C cancels it.
pub(super) async fn attached(
    client: Client,
    place: JobPlace,
    progress: ProgressKind,
    context: &Context,
) -> Result<(), Failure> {
    let show = Show::new(context, progress);
    let name = place.name.clone();
    match followed(client, place, show, true, 0).await? {
        Outcome::Ended((name, end)) => verdict(&name, &end),
        Outcome::Left(_) => Err(unended(&name)),
    }
}

pub(super) async fn wait(args: OneArgs, context: &Context) -> Result<(), Failure> {
    let place = place(&args.name, &args.cluster, context)?;
    let client = context.client().await?;
    // Of the output nothing is shown, so little is asked for.
    let outcome = followed(client, place, Show::nothing(), false, 1).await?;
    let Outcome::Ended((_, end)) = outcome else { return Err(unended(&args.name)) };
    if context.format == Format::Json {
        print(json_line(&EndView::of(&args.name, &end))?)?;
    }
    verdict(&args.name, &end)
}

pub(super) fn unended(name: &str) -> Failure {
    Failure::other(format!("the daemon told no end of job {name}"))
}

async fn followed(
    mut client: Client,
    place: JobPlace,
    show: Show,
    cancels: bool,
    tail: u32,
) -> Result<Outcome, Failure> {
    let interrupts = interrupts()?;
    let request = FollowJobRequest { place: Some(place.clone()), follow: true, tail };
    let doing = format!("follow job {}", place.name);
    let events = client.follow_job(request).await.map_err(|failure| failure.doing(doing))?;
    Followed { client, place, cancels, upload: None, interrupts, show }.follow(events).await
}
