//! `buildfleet job logs`: a Job's output as it is, on stdout.

use buildfleet_proto::fleet::job_event::Event;
use buildfleet_proto::fleet::{FollowJobRequest, JobEvent};

use super::args::OneArgs;
use super::one::place;
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::lines::Held;
use crate::cli::output::{Format, json_line, print};

/// Print a Job's output
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    one: OneArgs,
    /// Go on with what it writes, until its end
    #[arg(long, short)]
    follow: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tail: Option<u32>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct LineView<'a> {
    line: &'a str,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let doing = format!("read the logs of job {}", args.one.name);
    let place = place(&args.one.name, &args.one.cluster, context)?;
    let request = FollowJobRequest { place: Some(place), follow: args.follow, tail: args.tail.unwrap_or(0) };
    let mut client = context.client().await?;
    let mut events = client.follow_job(request).await.map_err(|failure| failure.doing(doing.clone()))?;
    let mut held = Held::default();
    loop {
        // As long as the user likes: Ctrl-C ends it, and the Job goes on.
        match events.message().await {
            Ok(Some(JobEvent { event: Some(Event::Output(bytes)) })) => match context.format {
                Format::Text => print(bytes)?,
                Format::Json => documents(&held.take(&bytes))?,
            },
            Ok(Some(_)) => {}
            Ok(None) => return documents(held.rest().as_slice()),
            Err(status) => {
                documents(held.rest().as_slice())?;
                return Err(Failure::refused(status).doing(doing));
            }
        }
    }
}

fn documents(lines: &[String]) -> Result<(), Failure> {
    let text: Result<String, Failure> = lines.iter().map(|line| json_line(&LineView { line })).collect();
    print(text?)
}
