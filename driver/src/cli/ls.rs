//! `buildfleet ls`: the builders and their nodes.

use buildfleet_proto::fleet::{Builder, ListResponse};

use super::client::CREATE_ONE;
use super::failure::Failure;
use super::fields::{Column, Row};
use super::json::BuilderView;
use super::output::{Format, json_line, json_value, print};
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
    if let Some(fields) = &context.fields {
        return print(fields.render(&COLUMNS, &rows(&builders, args.no_trunc)?)?);
    }
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
        if !node.drift.is_empty() {
            context.warning(&format!("node {}: {}", node.name, printable(&node.drift)));
        }
        if node.status == "error" && !node.reason.is_empty() {
            context.warning(&format!("node {}: {}", node.name, printable(&node.reason.trim().replace('\n', "; "))));
        }
    }
    Ok(())
}

/// buildx's fields, and where to connect to.
pub(super) const COLUMNS: [Column; 8] = [
    Column { name: "Name", header: "NAME/NODE" },
    Column { name: "DriverEndpoint", header: "DRIVER/ENDPOINT" },
    Column { name: "LastActivity", header: "LAST ACTIVITY" },
    Column { name: "Status", header: "STATUS" },
    Column { name: "Buildkit", header: "BUILDKIT" },
    Column { name: "Platforms", header: "PLATFORMS" },
    Column { name: "Error", header: "ERROR" },
    Column { name: "Socket", header: "SOCKET" },
];

/// A row per builder, and after it one per node, as buildx has them.
fn rows(builders: &[Builder], no_trunc: bool) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for builder in builders {
        let last = builder.last_activity.map(|at| at.to_string()).unwrap_or_default();
        let cells = [&builder.name, &builder.driver, &last, "", "", "", "", &builder.socket];
        let json = json_value(&BuilderView::from(builder.clone()))?;
        let row = Row::new(cells.map(str::to_owned).to_vec(), json.clone());
        rows.push(row.in_table(&COLUMNS, "Name", marked(builder)));
        for (at, node) in builder.nodes.iter().enumerate() {
            let marked = platforms::marked(&node.platforms, &node.worker_platforms);
            let platforms = marked.join(", ");
            let (version, reason) = (&node.buildkit_version, node.reason.trim());
            let cells = [&node.name, &node.endpoint, "", &node.status, version, &platforms, reason, &node.socket];
            let row = Row::new(cells.map(str::to_owned).to_vec(), json["Nodes"][at].clone());
            let row = row.in_table(&COLUMNS, "Name", format!(" \\_ {}", node.name));
            let row = row.in_table(&COLUMNS, "DriverEndpoint", format!(" \\_ {}", node.endpoint));
            let shown = if no_trunc { platforms.clone() } else { platforms::grouped(&marked) };
            rows.push(row.in_table(&COLUMNS, "Platforms", shown));
        }
    }
    Ok(rows)
}

/// The name, marked when it is the current one's.
fn marked(builder: &Builder) -> String {
    format!("{}{}", builder.name, if builder.current { "*" } else { "" })
}

/// buildx's table: a row per builder, and below it one per node.
fn table(builders: &[Builder], no_trunc: bool) -> String {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "BUILDKIT", "PLATFORMS"])];
    for builder in builders {
        rows.push(row([&marked(builder), &builder.driver, "", "", ""]));
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
    fn fields_have_a_row_per_builder_and_node() {
        let rows = rows(&samples::builders(), false).expect("they are JSON");
        let names: Vec<&str> = rows.iter().map(|row| row.cells()[0].as_str()).collect();
        assert_eq!(names, ["kube", "kube0", "kube1", "local", "local0"]);
        for row in &rows {
            let name = row.cells()[0].as_str();
            assert_eq!((row.cells().len(), row.json()["Name"].as_str()), (COLUMNS.len(), Some(name)));
        }
    }

    #[test]
    fn buildx_s_own_template_makes_its_own_table() {
        let format = "table {{.Name}}\\t{{.DriverEndpoint}}\\t{{.Status}}\\t{{.Buildkit}}\\t{{.Platforms}}";
        let Ok(super::super::fields::Shape::Fields(template)) = format.parse() else { panic!("it is one") };
        let rows = rows(&samples::builders(), false).expect("they are JSON");
        assert_eq!(
            template.render(&COLUMNS, &rows).expect("it has them"),
            include_str!("../../../testdata/cli/ls.txt")
        );
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
