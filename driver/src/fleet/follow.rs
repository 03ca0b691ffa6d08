//! Follows a node's pods: dials each that runs until it answers, and keeps one connection to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use buildfleet_proto::buildkit::ListWorkersResponse;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::upstream::{Held, Loss, ProbeError, Upstream};
use super::{NodeFleet, bulk, ping, silence};
use crate::backend::{DialError, Dialed};
use crate::builder::PodName;
use crate::report;

/// What a dial may take: a transport that has not answered by then is given up.
const DIAL: Duration = Duration::from_secs(10);

/// A starting `buildkitd` listens about half a second after its process has started: asking often is what makes the
/// difference between ready after one second and ready after two.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A pod that does not answer for long is asked once a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Moves the bytes of a connection until it ends.
type Driving = AbortOnDropHandle<Result<(), h2::Error>>;

/// Why there is no connection to a pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("failed to dial")]
    Dial(#[source] DialError),
    #[error("did not answer the dial within {} s", DIAL.as_secs())]
    Silent,
    #[error("buildkitd does not answer")]
    Probe(#[source] ProbeError),
}

/// Runs until the fleet closes or its backend is gone.
pub(super) async fn follow(fleet: Arc<NodeFleet>, closing: CancellationToken) {
    let mut pods = fleet.backend().pods();
    let mut tasks = JoinSet::new();
    let mut dialled: BTreeMap<(PodName, u64), AbortHandle> = BTreeMap::new();
    loop {
        let seen = pods.borrow_and_update().clone();
        let there: Vec<_> = seen.pods.iter().map(|pod| (pod.name.clone(), pod.incarnation)).collect();
        let known = seen.known;
        let running = fleet.saw(seen);
        dialled.retain(|pod, task| {
            let keep = (!known || there.contains(pod)) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for pod in running {
            dialled.entry(pod).or_insert_with_key(|(name, incarnation)| {
                tasks.spawn(keep_connected(Arc::clone(&fleet), name.clone(), *incarnation))
            });
        }
        loop {
            tokio::select! {
                () = closing.cancelled() => {
                    tasks.shutdown().await;
                    return;
                }
                changed = pods.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(node = %fleet.name(), %error, "the task of a pod's connection panicked");
                    }
                }
            }
        }
    }
}

async fn keep_connected(fleet: Arc<NodeFleet>, pod: PodName, incarnation: u64) {
    let held = Held::default();
    let mut pause = FIRST_PAUSE;
    loop {
        match connect(&fleet, &pod, incarnation, &held).await {
            Ok((upstream, mut driver, workers)) => {
                pause = FIRST_PAUSE;
                let _on_abort = LostOnDrop { fleet: &fleet, upstream: &upstream };
                let version = ping::version_of(&workers);
                fleet.answered(&upstream, workers);
                tracing::debug!(%pod, transport = %upstream.transport, "a pod is ready");
                let errands = async {
                    tokio::join!(ping::learn(&fleet, &upstream, version), bulk::keep(&fleet, &upstream));
                };
                let loss = tokio::select! {
                    () = errands => Loss::Broken,
                    () = upstream.lost() => Loss::Broken,
                    () = silence::noticed(&upstream) => Loss::Silent(upstream.pulse().last().elapsed()),
                    ended = &mut driver => match ended {
                        Ok(Err(error)) if silence::is_of_the_kernel(&error) => {
                            Loss::Silent(upstream.pulse().last().elapsed())
                        }
                        Ok(_) | Err(_) => Loss::Broken,
                    },
                };
                tracing::debug!(%pod, ?loss, "the connection to a pod has ended");
                if let Loss::Silent(silent) = loss {
                    fleet.failed(&pod, format!("has not answered for {:.1} s", silent.as_secs_f32()));
                }
                upstream.lose(loss);
            }
            Err(error) => {
                tracing::trace!(%pod, error = report::chain(&error), "a pod does not answer yet");
                fleet.failed(&pod, report::chain(&error));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let runs = |pods: &crate::backend::Pods| {
            pods.get(&pod)
                .is_some_and(|seen| seen.incarnation == incarnation && seen.phase == crate::backend::PodPhase::Running)
        };
        if !runs(&fleet.backend().pods().borrow()) {
            return;
        }
    }
}

/// Takes a connection off the fleet's books also when its task is aborted.
struct LostOnDrop<'a> {
    fleet: &'a NodeFleet,
    upstream: &'a Upstream,
}

impl Drop for LostOnDrop<'_> {
    fn drop(&mut self) {
        self.fleet.lost(self.upstream);
    }
}

/// A byte stream to the pod, in time.
pub(super) async fn dial(fleet: &NodeFleet, pod: &PodName) -> Result<Dialed, ConnectError> {
    let dialed = tokio::time::timeout(DIAL, fleet.backend().dial(pod)).await.map_err(|_| ConnectError::Silent)?;
    dialed.map_err(ConnectError::Dial)
}

async fn connect(
    fleet: &NodeFleet,
    pod: &PodName,
    incarnation: u64,
    held: &Held,
) -> Result<(Upstream, Driving, ListWorkersResponse), ConnectError> {
    let dialed = dial(fleet, pod).await?;
    let (upstream, driver) =
        Upstream::greet(pod.clone(), incarnation, Arc::clone(held), dialed).await.map_err(ConnectError::Probe)?;
    let driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let workers = upstream.list_workers().await.map_err(ConnectError::Probe)?;
    Ok((upstream, driver, workers))
}
