//! What the real buildx lists: asked once, by a template that tells more than its JSON does.

use std::path::Path;
use std::time::Duration;

use buildfleet_shim::store::is_ours;
use serde_json::Value;

use super::pflag::Given;
use super::real;
use crate::cli::buildx::Tool;
use crate::cli::failure::Failure;

/// Between the fields of a row, and at its end: in no name, and in no error that a program prints.
const FIELD: char = '\u{1f}';
const ROW: char = '\u{1e}';

/// Which explicit platforms a node has, and why it has no status, is in no JSON of buildx's.
const FIELDS: [&str; 10] = [
    ".Builder.Name",
    ".Builder.Current",
    ".Name",
    ".DriverEndpoint",
    ".LastActivity",
    ".Status",
    ".Buildkit",
    ".Platforms",
    ".Error",
    "json .",
];

/// A builder, as a list shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) current: bool,
    pub(super) last_activity: String,
    /// Of the builder as a whole.
    pub(super) error: String,
    pub(super) nodes: Vec<ListedNode>,
    /// As buildx spells it.
    pub(super) json: String,
}

/// A row below a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ListedNode {
    pub(super) name: String,
    pub(super) endpoint: String,
    pub(super) status: String,
    pub(super) buildkit: String,
    /// The given ones with a `*`.
    pub(super) platforms: Vec<String>,
    pub(super) error: String,
}

impl Listed {
    pub(super) fn is_ours(&self, runtime_dir: &Path) -> bool {
        is_ours(&self.driver, self.nodes.iter().map(|node| node.endpoint.as_str()), runtime_dir)
    }

    /// As `rm --all-inactive` tells: no node runs. Of a builder whose nodes are pods, buildx takes none for inactive.
    pub(super) fn is_inactive(&self) -> bool {
        let json: Value = serde_json::from_str(&self.json).unwrap_or_default();
        let dynamic = json.get("Dynamic").and_then(Value::as_bool).unwrap_or_default();
        self.error.is_empty() && !dynamic && self.nodes.iter().all(|node| node.status != "running")
    }
}

/// Asks the real buildx for all of its builders.
pub(super) async fn ask(tool: &Tool, given: &Given, limit: Option<Duration>) -> Result<Vec<Listed>, Failure> {
    let mut arguments = vec!["ls".to_owned(), "--format".to_owned(), template()];
    arguments.extend(given.text("timeout").map(|timeout| format!("--timeout={timeout}")));
    let output = real::output(tool, &arguments, limit).await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("ERROR: ");
        return Err(Failure::other(format!("`{tool} ls` failed: {said}")));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn template() -> String {
    let fields: Vec<String> = FIELDS.iter().map(|field| format!("{{{{{field}}}}}")).collect();
    fields.join(&FIELD.to_string()) + &ROW.to_string()
}

/// A builder's own row comes before those of its nodes.
fn parse(text: &str) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for row in text.split(ROW) {
        let fields: Vec<&str> = row.trim_start_matches('\n').split(FIELD).collect();
        let [builder, current, name, endpoint, last, status, buildkit, platforms, error, json] = fields[..] else {
            continue;
        };
        let text = str::to_owned;
        match all.last_mut() {
            Some(last) if last.name == builder => last.nodes.push(ListedNode {
                name: text(name),
                endpoint: text(endpoint),
                status: text(status),
                buildkit: text(buildkit),
                platforms: platforms.split(", ").filter(|platform| !platform.is_empty()).map(text).collect(),
                error: text(error.trim()),
            }),
            _ => all.push(Listed {
                name: text(builder),
                driver: text(endpoint),
                current: current == "true",
                last_activity: text(last),
                error: text(error.trim()),
                nodes: Vec::new(),
                json: text(json),
            }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: [&str; 10]) -> String {
        fields.join(&FIELD.to_string()) + &ROW.to_string() + "\n"
    }

    #[test]
    fn rows_belong_to_the_builder_before_them() {
        let text = row(["b", "false", "b", "remote", "2026-11-21T20:37:19Z", "", "", "", "", "{}"])
            + &row([
                "b",
                "false",
                "b",
                "unix:///r/a.sock",
                "",
                "running",
                "v0.33.1",
                "linux/amd64*, linux/386",
                "",
                "{}",
            ])
            + &row(["b", "false", "c", "unix:///x", "", "error", "", "", "no\nway\n", "{}"])
            + &row(["default", "true", "default", "", "", "error", "", "", "no engine", r#"{"Err":"no engine"}"#]);
        let listed = parse(&text);
        assert_eq!(listed.len(), 2, "{listed:#?}");
        assert_eq!(listed[0].nodes[0].platforms, ["linux/amd64*", "linux/386"]);
        assert_eq!(listed[0].nodes[1].error, "no\nway");
        assert_eq!((listed[0].last_activity.as_str(), listed[1].current), ("2026-11-21T20:37:19Z", true));
        assert_eq!((listed[1].error.as_str(), listed[1].nodes.len()), ("no engine", 0));
        assert!(!listed[0].is_ours(Path::new("/r")), "one of its nodes is somebody else's");
        assert_eq!(parse(""), Vec::new());
    }

    #[test]
    fn what_is_inactive_is_told_as_buildx_tells_it() {
        let node = |status: &str| ListedNode { status: status.to_owned(), ..ListedNode::default() };
        let builder = |nodes: &[&str], json: &str, error: &str| Listed {
            nodes: nodes.iter().map(|status| node(status)).collect(),
            json: json.to_owned(),
            error: error.to_owned(),
            ..Listed::default()
        };
        for (listed, wanted) in [
            (builder(&["inactive"], r#"{"Dynamic":false}"#, ""), true),
            (builder(&["stopped", "error"], "{}", ""), true),
            (builder(&["inactive", "running"], "{}", ""), false),
            (builder(&["inactive"], r#"{"Dynamic":true}"#, ""), false),
            (builder(&[], "{}", "cannot be loaded"), false),
        ] {
            assert_eq!(listed.is_inactive(), wanted, "{listed:?}");
        }
    }
}
