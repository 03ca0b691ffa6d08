//! Starts nodes and tells the story of the wait.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::status;
use crate::daemon::entry::NodeEntry;
use crate::daemon::progress::{News, Teller};
use crate::fleet::StartError;

/// Returns when every pod of every node is ready, or when it is known that some will not be, or when the client is gone.
pub(super) async fn bootstrap(
    nodes: Vec<Arc<NodeEntry>>,
    timeout: Option<Duration>,
    teller: Teller,
) -> Result<(), Status> {
    let starting = futures::future::join_all(nodes.iter().map(|node| start(node, timeout, &teller)));
    let started = tokio::select! {
        started = starting => started,
        // The pods go on starting: they were asked for.
        () = teller.gone() => return Ok(()),
    };
    let errors: Vec<StartError> = started.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(status::start(&errors)) }
}

async fn start(node: &NodeEntry, timeout: Option<Duration>, teller: &Teller) -> Result<(), StartError> {
    let mut snapshots = node.fleet.watch();
    let first = snapshots.borrow_and_update().clone();
    let mut news = News::since(node.name.clone(), &first);
    // Pods that got stuck before this client came change nothing any more: it is told now where they stand.
    for event in news.next(&first) {
        teller.tell(event).await;
    }
    let mut ready = std::pin::pin!(node.fleet.ready(true, timeout));
    loop {
        let result = tokio::select! {
            result = &mut ready => Some(result),
            Ok(()) = snapshots.changed() => None,
        };
        let snapshot = snapshots.borrow_and_update().clone();
        for event in news.next(&snapshot) {
            teller.tell(event).await;
        }
        if let Some(result) = result {
            return result;
        }
    }
}
