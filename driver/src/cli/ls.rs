//! `buildfleet ls`: the builders and their nodes.

use buildfleet_proto::fleet::{Builder, ListResponse};

use super::client::CREATE_ONE;
use super::failure::Failure;
use super::json::BuilderView;
use super::output::{Format, json_line, print};
use super::table::{columns, printable};
use super::{Context, platforms};

/// List builders and their nodes; starts no pod
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show every platform
    #[arg(long)]
    no_trunc: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let ListResponse { builders, warnings } = context.client().await?.list_with_warnings().await?;
    warnings.iter().for_each(|warning| context.warning(&printable(warning)));
    if context.format == Format::Json {
        let lines: Result<String, Failure> =
            builders.into_iter().map(|builder| json_line(&BuilderView::from(builder))).collect();
        return print(lines?);
    }
    print(table(&builders, args.no_trunc))?;
    if builders.is_empty() {
        context.info(CREATE_ONE);
    }
    for node in builders.iter().flat_map(|builder| &builder.nodes) {
        if node.status == "error" && !node.reason.is_empty() {
            context.warning(&format!("node {}: {}", node.name, printable(&node.reason.trim().replace('\n', "; "))));
        }
    }
    Ok(())
}

/// buildx's table: a row per builder, and below it one per node.
fn table(builders: &[Builder], no_trunc: bool) -> String {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "BUILDKIT", "PLATFORMS"])];
    for builder in builders {
        let mark = if builder.current { "*" } else { "" };
        rows.push(row([&format!("{}{mark}", builder.name), &builder.driver, "", "", ""]));
        for node in &builder.nodes {
            let marked = platforms::marked(&node.platforms, &node.worker_platforms);
            let platforms = if no_trunc { marked.join(", ") } else { platforms::grouped(&marked) };
            rows.push(row([
                &format!(" \\_ {}", node.name),
                &format!(" \\_ {}", node.endpoint),
                &node.status,
                &node.buildkit_version,
                &platforms,
            ]));
        }
    }
    columns(&rows, 10, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn the_table_is_buildx_s() {
        let wanted = include_str!("../../../testdata/cli/ls.txt");
        assert_eq!(table(&samples::builders(), false), wanted);
    }

    #[test]
    fn every_platform_is_shown_when_asked_for() {
        let text = table(&samples::builders(), true);
        assert!(text.contains("linux/amd64*, linux/amd64/v2, linux/amd64/v3, linux/386\n"), "{text}");
    }

    #[test]
    fn without_builders_there_is_the_header_alone() {
        assert_eq!(table(&[], false), "NAME/NODE   DRIVER/ENDPOINT   STATUS    BUILDKIT   PLATFORMS\n");
    }

    #[test]
    fn json_is_one_line_per_builder() {
        let lines: String = samples::builders()
            .into_iter()
            .map(|builder| json_line(&BuilderView::from(builder)).expect("a builder is JSON"))
            .collect();
        assert_eq!(lines, include_str!("../../../testdata/cli/ls.json"));
    }
}
