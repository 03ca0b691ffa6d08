//! What `docker buildx ls` shows of builders, ours and others: rows, fields and the errors below them.

use buildfleet_proto::fleet::{Builder, Node};
use serde_json::Value;

use super::others::{Listed, ListedNode};
use crate::cli::failure::Failure;
use crate::cli::fields::{Column, Row};
use crate::cli::json::BuilderView;
use crate::cli::ls::COLUMNS;
use crate::cli::output::json_value;
use crate::cli::platforms;
use crate::cli::units::whole_seconds;

/// buildx's; of ours, a list has one more.
pub(super) fn known() -> &'static [Column] {
    &COLUMNS[..COLUMNS.len() - 1]
}

/// A builder of ours in the place of the one that buildx knows by its sockets.
pub(super) fn ours(listed: &Listed, builder: &Builder) -> Result<Listed, Failure> {
    let mut json = json_value(&BuilderView::from(builder.clone()))?;
    // Which one is the current one is said by the store of buildx that was asked.
    json["Current"] = Value::Bool(listed.current);
    let activity = builder.last_activity.as_ref().map(|at| whole_seconds(at).replace(' ', "T") + "Z");
    Ok(Listed {
        name: builder.name.clone(),
        driver: builder.driver.clone(),
        current: listed.current,
        last_activity: activity.unwrap_or_else(|| listed.last_activity.clone()),
        error: String::new(),
        nodes: builder.nodes.iter().flat_map(node).collect(),
        json: json.to_string(),
    })
}

/// As buildx has it for its kubernetes driver: a row per pod that runs, and without one a row for the node.
fn node(node: &Node) -> Vec<ListedNode> {
    let row = |name: &str, status: &str, error: &str| ListedNode {
        name: name.to_owned(),
        endpoint: node.endpoint.clone(),
        status: status.to_owned(),
        buildkit: node.buildkit_version.clone(),
        platforms: platforms::marked(&node.platforms, &node.worker_platforms),
        error: error.trim().to_owned(),
    };
    let up = node.pods.iter().filter(|pod| matches!(pod.status.as_str(), "ready" | "starting"));
    let rows = up.map(|pod| row(&pod.name, if pod.status == "ready" { "running" } else { &pod.status }, ""));
    let rows: Vec<ListedNode> = rows.collect();
    if rows.iter().any(|row| row.status == "running") && node.status != "error" {
        return rows;
    }
    let error = if node.status == "error" { node.reason.as_str() } else { "" };
    vec![row(&node.name, &node.status, error)]
}

/// A row per builder, and after it one per node or pod.
pub(super) fn rows(listed: &[Listed], no_trunc: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for builder in listed {
        let json: Value = serde_json::from_str(&builder.json).unwrap_or_default();
        let status = if builder.error.is_empty() { "" } else { "error" };
        let cells = [&builder.name, &builder.driver, &builder.last_activity, status, "", "", &builder.error];
        let row = Row::new(cells.map(str::to_owned).to_vec(), json.clone());
        let mark = if builder.current { "*" } else { "" };
        rows.push(row.in_table(known(), "Name", format!("{}{mark}", builder.name)));
        if !builder.error.is_empty() {
            continue;
        }
        for node in &builder.nodes {
            let platforms = node.platforms.join(", ");
            let cells = [&node.name, &node.endpoint, "", &node.status, &node.buildkit, &platforms, &node.error];
            let row = Row::new(cells.map(str::to_owned).to_vec(), json.clone());
            let row = row.in_table(known(), "Name", format!(" \\_ {}", node.name));
            let row = row.in_table(known(), "DriverEndpoint", format!(" \\_ {}", node.endpoint));
            let shown = if no_trunc { platforms } else { platforms::grouped(&node.platforms) };
            rows.push(row.in_table(known(), "Platforms", shown));
        }
    }
    rows
}

/// What buildx says below a table.
pub(super) fn errors(listed: &[Listed]) -> Vec<String> {
    let mut lines = Vec::new();
    for builder in listed {
        if !builder.error.is_empty() {
            lines.push(format!("Cannot load builder {}: {}", builder.name, builder.error));
            continue;
        }
        let failed = builder.nodes.iter().filter(|node| !node.error.is_empty());
        lines.extend(
            failed.map(|node| format!("Failed to get status for {} ({}): {}", builder.name, node.name, node.error)),
        );
    }
    lines
}
