//! `docker buildx ls` where builders of ours are among the others: theirs as the real buildx shows them, ours as they are.

use buildfleet_proto::fleet::ListResponse;

use super::others::{self, Listed};
use super::pflag::Given;
use super::{Call, rows};
use crate::cli::client::within;
use crate::cli::failure::Failure;
use crate::cli::fields::{Shape, Template};
use crate::cli::output::{print, say};
use crate::cli::table::printable;

/// What buildx shows without `--format`.
const TABLE: &str = "table {{.Name}}\\t{{.DriverEndpoint}}\\t{{.Status}}\\t{{.Buildkit}}\\t{{.Platforms}}";

/// A list's shape, of those that we know.
enum Layout {
    Table(Template),
    Lines(Template),
    Json,
}

pub(super) async fn run(call: Call, given: &Given) -> Result<u8, Failure> {
    let Some(layout) = Layout::of(given.text("format").unwrap_or("table")) else {
        return template_of_theirs(&call).await;
    };
    let limit = call.limit(given);
    // Side by side: neither waits for a node that does not answer the other.
    let asking = async { within(limit, async { call.client().await?.list_with_warnings().await }).await };
    let telling = async { others::ask(&call.real().await?, given, limit).await };
    let (ours, listed) = tokio::join!(asking, telling);
    let listed = listed?;
    let (builders, warnings) = match ours {
        Ok(ListResponse { builders, warnings }) => (builders, warnings),
        Err(failure) => {
            // What buildx has of ours says little, and is better than nothing of the others.
            call.context.failed(&failure);
            (Vec::new(), Vec::new())
        }
    };
    let runtime_dir = call.context.settings.runtime_dir();
    let listed: Vec<Listed> = listed
        .into_iter()
        .map(|listed| match builders.iter().find(|builder| builder.name == listed.name) {
            Some(builder) if listed.is_ours(runtime_dir) => rows::ours(&listed, builder),
            _ => Ok(listed),
        })
        .collect::<Result<_, _>>()?;
    let rows = rows::rows(&listed, given.is("no-trunc"));
    let text = match &layout {
        Layout::Json => Some(listed.iter().map(|builder| format!("{}\n", builder.json)).collect()),
        Layout::Table(template) | Layout::Lines(template) => template.render_as_docker(rows::known(), &rows),
    };
    let Some(text) = text else { return template_of_theirs(&call).await };
    print(text)?;
    if let Layout::Table(_) = layout {
        let errors = rows::errors(&listed);
        if !errors.is_empty() {
            say("");
        }
        errors.iter().for_each(|error| say(error));
    }
    warnings.iter().for_each(|warning| call.warning(&printable(warning)));
    for node in builders.iter().flat_map(|builder| &builder.nodes).filter(|node| !node.drift.is_empty()) {
        call.warning(&format!("node {}: {}", node.name, printable(&node.drift)));
    }
    Ok(0)
}

/// A template that is more than fields is for Go to fill in.
async fn template_of_theirs(call: &Call) -> Result<u8, Failure> {
    call.warning("docker's own buildx fills in this template: to it, builders of buildfleet are `remote` ones");
    call.relay().await
}

impl Layout {
    fn of(format: &str) -> Option<Self> {
        let template = |text: &str| match text.parse() {
            Ok(Shape::Fields(template)) => Some(template),
            Ok(Shape::Text | Shape::Json) | Err(_) => None,
        };
        match format {
            "table" => template(TABLE).map(Self::Table),
            "json" | "{{json .}}" => Some(Self::Json),
            text if text.starts_with("table") => template(text).map(Self::Table),
            text => template(text).map(Self::Lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use buildfleet_proto::fleet::Pod;

    use super::*;
    use crate::cli::front::others::ListedNode;
    use crate::cli::samples;

    /// Two of ours, of which one runs, and one that is not.
    fn listed() -> Vec<Listed> {
        let mut builders = samples::builders();
        builders[0].nodes[0].pods = ["kube0-6977cdcb75-48ld2", "kube0-6977cdcb75-rkc6b"]
            .map(|name| Pod { name: name.into(), status: "ready".into(), ..Pod::default() })
            .into();
        builders[0].nodes[0].status = "running".into();
        let known = Listed { current: true, ..Listed::default() };
        let mut all: Vec<Listed> =
            builders.iter().map(|builder| rows::ours(&known, builder).expect("it is JSON")).collect();
        all[1].current = false;
        all.push(Listed {
            name: "theirs".into(),
            driver: "docker-container".into(),
            nodes: vec![ListedNode {
                name: "theirs0".into(),
                endpoint: "desktop".into(),
                status: "inactive".into(),
                ..ListedNode::default()
            }],
            ..Listed::default()
        });
        all.push(Listed { name: "default".into(), error: "no engine".into(), ..Listed::default() });
        all
    }

    fn rendered(format: &str, no_trunc: bool) -> Option<String> {
        match Layout::of(format)? {
            Layout::Json => None,
            Layout::Table(template) | Layout::Lines(template) => {
                template.render_as_docker(rows::known(), &rows::rows(&listed(), no_trunc))
            }
        }
    }

    #[test]
    fn the_table_is_docker_s_to_the_last_space() {
        assert_eq!(rendered("table", false).as_deref(), Some(include_str!("../../../../testdata/cli/front-ls.txt")));
    }

    #[test]
    fn templates_of_fields_are_filled_in_and_others_are_not() {
        assert_eq!(rendered("table {{.Name}}", false).expect("a table").lines().nth(1), Some("kube*"));
        assert!(rendered("{{.Name}} {{.Platforms}}", false).expect("lines").starts_with("kube \n"));
        assert!(matches!(Layout::of("json"), Some(Layout::Json)));
        for format in ["yaml", "", "pretty", "raw", "{{.Nope}}", "{{range .Builder.Nodes}}x{{end}}", "{{.Name"] {
            assert_eq!(rendered(format, false), None, "{format}");
        }
    }
}
