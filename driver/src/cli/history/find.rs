//! Which builds there are, and which one a shortened id means.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::SystemTime;

use buildfleet_proto::buildkit::{BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest};
use futures::future::try_join_all;

use crate::cli::Context;
use crate::cli::buildkit::{self, NodeApi};
use crate::cli::failure::Failure;

/// The record of a build, and the node that has it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) builder: String,
    pub(super) node: String,
    /// Its place among the nodes that were asked.
    pub(super) at: usize,
    pub(super) told: BuildHistoryRecord,
}

impl Record {
    /// When it began.
    pub(super) fn began(&self) -> SystemTime {
        self.told.created_at.map_or(SystemTime::UNIX_EPOCH, |at| crate::cli::units::time(&at))
    }

    pub(super) fn is_over(&self) -> bool {
        self.told.completed_at.is_some()
    }

    /// As buildx writes it: builder, node and id.
    pub(super) fn full_ref(&self) -> String {
        format!("{}/{}/{}", self.builder, self.node, self.told.r#ref)
    }
}

/// The records of all nodes, newest first.
pub(super) async fn records(context: &Context, nodes: &[NodeApi], filter: &[String]) -> Result<Vec<Record>, Failure> {
    asked(context, nodes, BuildHistoryRequest { filter: filter.to_vec(), ..BuildHistoryRequest::default() }).await
}

/// Only of builds that are not over.
pub(super) async fn running(context: &Context, nodes: &[NodeApi]) -> Result<Vec<Record>, Failure> {
    asked(context, nodes, BuildHistoryRequest { active_only: true, ..BuildHistoryRequest::default() }).await
}

async fn asked(context: &Context, nodes: &[NodeApi], request: BuildHistoryRequest) -> Result<Vec<Record>, Failure> {
    let request = BuildHistoryRequest { early_exit: true, ..request };
    let asking = nodes.iter().enumerate().map(|(at, node)| (at, node, request.clone()));
    let asking = asking.map(|(at, node, request)| async move {
        let doing = |failure: Failure| failure.doing(format!("read the history of node {}", node.node()));
        let stream = node.control().listen_build_history(request).await;
        let mut stream = stream.map_err(Failure::refused).map_err(doing)?.into_inner();
        let mut records = Vec::new();
        while let Some(event) = buildkit::next::<BuildHistoryEvent>(context, &mut stream).await.map_err(doing)? {
            let deleted = event.r#type() == BuildHistoryEventType::Deleted;
            if let Some(told) = event.record.filter(|_| !deleted) {
                let (builder, node) = (node.builder().to_owned(), node.node().to_owned());
                records.push(Record { builder, node, at, told });
            }
        }
        Ok::<_, Failure>(records)
    });
    let mut records: Vec<Record> = try_join_all(asking).await?.into_iter().flatten().collect();
    records.sort_by_key(|record| Reverse(record.began()));
    Ok(records)
}

/// The records of the build that is meant, newest first; without an id those of the latest build.
///
/// # Errors
/// When there is none, or the id's beginning fits several.
pub(super) fn of_build(records: &[Record], builder: &str, wanted: Option<&str>) -> Result<Vec<Record>, Failure> {
    let wanted = wanted.unwrap_or("^0");
    let id = match wanted.strip_prefix('^') {
        Some(offset) => latest(records, builder, offset)?,
        // buildx prints ids with their builder and node before them.
        None => beginning(records, builder, wanted.rsplit('/').next().unwrap_or(wanted))?,
    };
    Ok(records.iter().filter(|record| record.told.r#ref == id).cloned().collect())
}

fn latest(records: &[Record], builder: &str, offset: &str) -> Result<String, Failure> {
    let refused =
        |_| Failure::usage(format!("`^{offset}` names no build: accepted are ^0 for the latest, ^1 and so on"));
    let offset: usize = offset.parse().map_err(refused)?;
    let mut ids: Vec<&str> = Vec::new();
    for record in records {
        if !ids.contains(&record.told.r#ref.as_str()) {
            ids.push(&record.told.r#ref);
        }
    }
    ids.get(offset).map(|id| (*id).to_owned()).ok_or_else(|| match ids.len() {
        0 => Failure::other(format!("builder {builder} has no records of builds")),
        count => Failure::other(format!("builder {builder} has records of {count} builds, ^{offset} is none of them")),
    })
}

fn beginning(records: &[Record], builder: &str, wanted: &str) -> Result<String, Failure> {
    let ids: BTreeSet<&str> = records.iter().map(|record| record.told.r#ref.as_str()).collect();
    if ids.contains(wanted) {
        return Ok(wanted.to_owned());
    }
    let fitting: Vec<&str> = ids.into_iter().filter(|id| !wanted.is_empty() && id.starts_with(wanted)).collect();
    match fitting[..] {
        [one] => Ok(one.to_owned()),
        [] => Err(Failure::other(format!("builder {builder} has no record of a build `{wanted}`"))
            .hint("`buildfleet history ls` lists those that there are")),
        _ => Err(Failure::other(format!("`{wanted}` is the beginning of several builds: {}", fitting.join(", ")))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::history) fn record(id: &str, node: &str, told: BuildHistoryRecord) -> Record {
        let told = BuildHistoryRecord { r#ref: id.into(), ..told };
        Record { builder: "kube".into(), node: node.into(), at: 0, told }
    }

    fn records() -> Vec<Record> {
        let record = |id, node| record(id, node, BuildHistoryRecord::default());
        vec![record("c1", "kube0"), record("abcd", "kube0"), record("abcd", "kube1"), record("abef", "kube1")]
    }

    #[test]
    fn a_build_is_named_by_its_id_its_beginning_or_its_place() {
        for (wanted, id, count) in [
            (None, "c1", 1),
            (Some("^0"), "c1", 1),
            (Some("^1"), "abcd", 2),
            (Some("^2"), "abef", 1),
            (Some("abcd"), "abcd", 2),
            (Some("abc"), "abcd", 2),
            (Some("c"), "c1", 1),
            (Some("kube/kube1/abef"), "abef", 1),
        ] {
            let found = of_build(&records(), "kube", wanted).expect("there is one");
            assert!(found.len() == count && found.iter().all(|it| it.told.r#ref == id), "{wanted:?}: {found:?}");
        }
    }

    #[test]
    fn what_names_no_build_or_several_is_an_error() {
        for (wanted, part) in [
            ("ab", "`ab` is the beginning of several builds: abcd, abef"),
            ("x", "builder kube has no record of a build `x`"),
            ("", "builder kube has no record of a build ``"),
            ("^3", "builder kube has records of 3 builds, ^3 is none of them"),
            ("^x", "`^x` names no build: accepted are ^0"),
        ] {
            let told = of_build(&records(), "kube", Some(wanted)).expect_err(wanted).render();
            assert!(told.contains(part), "{wanted}: {told}");
        }
        let none = of_build(&[], "kube", None).expect_err("there is none").render();
        assert_eq!(none, "error: builder kube has no records of builds\n");
    }
}
