//! `buildfleet history logs`: what a build printed.

use buildfleet_proto::buildkit::{StatusRequest, StatusResponse};
use serde::Serialize;

use super::find::{of_build, records};
use super::plain::Plain;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, json_line, print};
use crate::cli::{Context, buildkit};

/// Print the log of a build; follows one that runs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build; without it, the latest
    build: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LineView<'a> {
    vertex: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    stream: i64,
    data: String,
}

pub(super) async fn run(args: Args, builder: Option<String>, context: &Context) -> Result<(), Failure> {
    let (builder, nodes) = buildkit::connect(context, builder).await?;
    let records = records(context, &nodes, &[]).await?;
    let found = of_build(&records, &builder.name, args.build.as_deref())?;
    // A build for several platforms has a record on each of its nodes.
    for record in found {
        let doing = |failure: Failure| {
            failure.doing(format!("read the log of build {} on node {}", record.told.r#ref, record.node))
        };
        let mut control = nodes[record.at].control();
        let request = StatusRequest { r#ref: record.told.r#ref.clone() };
        let stream = control.status(request).await.map_err(Failure::refused);
        let mut stream = stream.map_err(doing)?.into_inner();
        let mut plain = Plain::default();
        while let Some(told) = buildkit::next::<StatusResponse>(context, &mut stream).await.map_err(doing)? {
            match context.format {
                Format::Text => print(plain.lines(&told))?,
                Format::Json => print(json(&told)?)?,
            }
        }
    }
    Ok(())
}

fn json(told: &StatusResponse) -> Result<String, Failure> {
    let line = |log: &buildfleet_proto::buildkit::VertexLog| {
        json_line(&LineView {
            vertex: &log.vertex,
            time: log.timestamp.map(|at| at.to_string()),
            stream: log.stream,
            data: String::from_utf8_lossy(&log.msg).into_owned(),
        })
    };
    told.logs.iter().map(line).collect()
}
