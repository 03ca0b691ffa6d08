//! What the pods of a builder use now.

use std::time::Duration;

use buildfleet_proto::fleet::{PodUsage, UsageResponse};
use futures::future::join_all;

use crate::daemon::entry::BuilderEntry;
use crate::report;

/// The metrics server, or half a second of looking at processes.
const ANSWER: Duration = Duration::from_secs(20);

pub(super) async fn usage(entry: &BuilderEntry) -> UsageResponse {
    let asking = entry.nodes.iter().map(|node| async move {
        let answer = tokio::time::timeout(ANSWER, node.fleet.backend().usage()).await;
        match answer {
            Ok(Ok(pods)) => Ok(pods),
            Ok(Err(error)) => Err(format!("node {}: {}", node.name, report::chain(&error))),
            Err(_) => Err(format!("node {}: no answer within {} s", node.name, ANSWER.as_secs())),
        }
    });
    let mut response = UsageResponse::default();
    for answer in join_all(asking).await {
        match answer {
            Ok(pods) => response.pods.extend(pods.into_iter().map(|used| PodUsage {
                pod: used.pod.to_string(),
                cpu_millis: used.cpu_millis,
                memory_bytes: used.memory_bytes,
            })),
            Err(why) => response.unknown.push(why),
        }
    }
    response
}
