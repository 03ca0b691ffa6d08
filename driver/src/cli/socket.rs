//! `buildfleet socket`: the address that BuildKit clients connect to.

use buildfleet_proto::fleet::Builder;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::output::{Format, json_line, print};

/// Print the address of a builder's socket, as in `buildctl --addr "$(buildfleet socket kube)"`
///
/// Starts the daemon when none runs, because it holds the socket, but no pod.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The builder; without it, $BUILDFLEET_BUILDER or the current one
    name: Option<String>,
    /// The socket of this node alone
    #[arg(long)]
    node: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    address: String,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let name = context.builder(args.name);
    let builder = context.client().await?.inspect(&name).await?;
    let address = format!("unix://{}", socket(&builder, args.node.as_deref())?);
    match context.format {
        Format::Text => print(format!("{address}\n")),
        Format::Json => print(json_line(&View { name: &builder.name, node: args.node.as_deref(), address })?),
    }
}

pub(super) fn socket<'a>(builder: &'a Builder, node: Option<&str>) -> Result<&'a str, Failure> {
    let Some(wanted) = node else { return Ok(&builder.socket) };
    match builder.nodes.iter().find(|node| node.name == wanted) {
        Some(node) => Ok(&node.socket),
        None => {
            let names: Vec<&str> = builder.nodes.iter().map(|node| node.name.as_str()).collect();
            let failure = Failure::other(format!("builder {} has no node `{wanted}`", builder.name));
            Err(failure.hint(format!("its nodes are {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn a_builder_and_each_of_its_nodes_have_a_socket() {
        let kube = &samples::builders()[0];
        for (node, wanted) in [
            (None, "/run/buildfleet/builders/kube.sock"),
            (Some("kube0"), "/run/buildfleet/nodes/kube0.sock"),
            (Some("kube1"), "/run/buildfleet/nodes/kube1.sock"),
        ] {
            assert_eq!(socket(kube, node).expect("the node is there"), wanted);
        }
        let failure = socket(kube, Some("kube2")).expect_err("there is no kube2");
        assert_eq!(failure.render(), "error: builder kube has no node `kube2`\nhint: its nodes are kube0, kube1\n");
    }
}
