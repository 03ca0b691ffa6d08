//! Fleets whose pods are in this process.

mod bulk;
mod drain;
mod network;
mod ping;
mod pods;
mod roll;
mod silence;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Lease, NodeFleet};
use crate::placement::Placing;

/// Longer than anything that is waited for.
const LONG: Duration = Duration::from_secs(60);

async fn ready(fleet: &NodeFleet, wanted: u32) {
    let mut snapshots = fleet.watch();
    let ready = snapshots.wait_for(|snapshot| snapshot.ready == wanted);
    tokio::time::timeout(LONG, ready).await.expect("the pods are not ready").unwrap();
}

async fn lease(fleet: &Arc<NodeFleet>) -> Lease {
    fleet.acquire(&Placing::default(), Instant::now()).await.unwrap()
}
