//! Lets those who share a node's pods know from time to time that this daemon builds in them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::ApplyError;
use crate::builder::NodeName;
use crate::fleet::NodeSnapshot;
use crate::report;

/// At most one note in this time. `gc` leaves what was used in the last half hour alone, so one of three may fail.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How long a note that is due waits for the end of the builds: a short one is over by then, and no request is made beside it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Follows the builds of a node until `stop`.
pub(super) async fn follow<N>(
    node: NodeName,
    note: impl Fn() -> N,
    mut snapshots: watch::Receiver<NodeSnapshot>,
    stop: CancellationToken,
) where
    N: Future<Output = Result<(), ApplyError>>,
{
    let noting = async {
        loop {
            // The fleet that sends them is closed after this task.
            if snapshots.wait_for(|snapshot| !is_idle(snapshot)).await.is_err() {
                return;
            }
            let _ = tokio::time::timeout(PATIENCE, snapshots.wait_for(is_idle)).await;
            let noted = Instant::now();
            if let Err(error) = note().await {
                tracing::warn!(%node, error = report::chain(&error), "failed to note that its pods are in use");
            }
            tokio::time::sleep_until(noted + INTERVAL).await;
        }
    };
    tokio::select! {
        () = noting => {}
        () = stop.cancelled() => {}
    }
}

fn is_idle(snapshot: &NodeSnapshot) -> bool {
    snapshot.pods.iter().all(|pod| pod.builds == 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::daemon::owned::Owned;
    use crate::fleet::{PodSnapshot, PodStatus};

    fn with_builds(builds: u32) -> NodeSnapshot {
        let name = "kube0-a".parse().unwrap();
        let pod = PodSnapshot {
            name,
            status: PodStatus::Ready,
            reason: None,
            host: None,
            started: None,
            builds,
            transport: None,
        };
        NodeSnapshot { pods: vec![pod], ..NodeSnapshot::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn use_is_noted_beside_no_short_build_and_at_most_once_in_an_interval() {
        let snapshots = watch::Sender::new(with_builds(0));
        let (notes, seen) = (Arc::new(AtomicUsize::new(0)), snapshots.subscribe());
        let counted = Arc::clone(&notes);
        let note = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok(()))
        };
        let task = Owned::spawn(|stop| follow("kube0".parse().unwrap(), note, seen, stop));
        let pass = tokio::time::sleep;
        let noted = || notes.load(Ordering::SeqCst);
        pass(INTERVAL * 3).await;
        assert_eq!(noted(), 0, "nobody builds");
        snapshots.send_replace(with_builds(1));
        pass(PATIENCE / 2).await;
        assert_eq!(noted(), 0, "beside a build that may end at once");
        snapshots.send_replace(with_builds(0));
        pass(Duration::from_secs(1)).await;
        assert_eq!(noted(), 1);
        // One that takes hours is noted while it runs, as often as it may be.
        snapshots.send_replace(with_builds(1));
        pass(INTERVAL / 2).await;
        assert_eq!(noted(), 1);
        pass(INTERVAL * 3).await;
        assert_eq!(noted(), 4);
        task.end().await;
        pass(INTERVAL * 3).await;
        assert_eq!(noted(), 4);
    }
}
