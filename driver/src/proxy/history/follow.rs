//! A history that is listened to until the client leaves: each pod tells its own, also one that comes later.

use std::collections::BTreeMap;
use std::time::Duration;

use buildfleet_proto::buildkit::BuildHistoryRequest;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::HeaderMap;
use tokio::time::{Instant, sleep_until};

use super::{learn, told_by_owner};
use crate::builder::PodName;
use crate::proxy::fanout::{self, Archive, Gone, Heard, Hearing, Owner, Patience, Reply, Tally};
use crate::proxy::unary::Question;
use crate::wire::{self, Code, Status};

/// A pod whose answer has ended is listened to again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until the client leaves, the daemon or the node ends, or a pod refuses the question as such.
pub(super) async fn follow(
    question: &Question,
    asked: &BuildHistoryRequest,
    archive: &Archive<'_>,
    reply: &mut Reply,
) -> Result<HeaderMap, Gone> {
    let told = async {
        let owner = if asked.r#ref.is_empty() { Owner::Unknown } else { archive.owner(&asked.r#ref).await };
        match owner {
            Owner::Here(lease) => {
                let hearing = Hearing::new(lease, question, Patience::Working(None));
                let told = told_by_owner(hearing, archive, reply).await?;
                Ok(told.unwrap_or_else(|| Status::new(Code::Ok, "").trailers()))
            }
            // One that cannot be reached may come back, and other pods may have it too.
            Owner::Away(_) | Owner::Unknown => everywhere(question, archive, reply).await,
        }
    };
    let status = tokio::select! {
        told = told => return told,
        () = archive.shutdown.draining() => "the daemon is shutting down".to_owned(),
        () = archive.fleet.closed() => format!("node {} has been removed", archive.fleet.name()),
    };
    Ok(Status::new(Code::Unavailable, status).trailers())
}

type Next = BoxFuture<'static, (Hearing, Heard)>;

/// The pods that are listened to.
struct Listeners {
    talking: FuturesUnordered<Next>,
    pods: BTreeMap<PodName, Listener>,
}

enum Listener {
    Silent,
    /// Has told something, so that it takes the question.
    Heard,
    /// Not asked before then.
    Resting(Instant),
}

impl Listeners {
    fn ask_new_ones(&mut self, question: &Question, archive: &Archive<'_>) {
        let now = Instant::now();
        for pod in archive.fleet.reachable() {
            let rested = match self.pods.get(&pod) {
                None => true,
                Some(Listener::Resting(until)) => *until <= now,
                Some(Listener::Silent | Listener::Heard) => false,
            };
            if rested && let Some(lease) = archive.fleet.visit(&pod) {
                let hearing = Hearing::new(lease, question, Patience::Listening);
                self.talking.push(Box::pin(fanout::next(hearing)));
                self.pods.insert(pod, Listener::Silent);
            }
        }
    }

    /// When the next pod has rested.
    fn rested(&self) -> Option<Instant> {
        let resting = self.pods.values().filter_map(|listener| match listener {
            Listener::Resting(until) => Some(*until),
            Listener::Silent | Listener::Heard => None,
        });
        resting.min()
    }
}

async fn everywhere(question: &Question, archive: &Archive<'_>, reply: &mut Reply) -> Result<HeaderMap, Gone> {
    let mut snapshots = archive.fleet.watch();
    let mut listeners = Listeners { talking: FuturesUnordered::new(), pods: BTreeMap::new() };
    loop {
        snapshots.mark_unchanged();
        // A pod that rests and cannot be reached is not waited for: it comes back with a snapshot.
        let reachable = archive.fleet.reachable();
        listeners.pods.retain(|pod, listener| !matches!(listener, Listener::Resting(_)) || reachable.contains(pod));
        listeners.ask_new_ones(question, archive);
        let rested = listeners.rested();
        tokio::select! {
            Some((hearing, heard)) = listeners.talking.next() => match heard {
                Heard::Message(message) => {
                    learn(archive, &message, hearing.pod());
                    reply.send(message).await?;
                    listeners.pods.insert(hearing.pod().clone(), Listener::Heard);
                    listeners.talking.push(Box::pin(fanout::next(hearing)));
                }
                end => {
                    let silent = matches!(listeners.pods.get(hearing.pod()), Some(Listener::Silent));
                    if silent && let Heard::End(trailers) = &end && is_final(trailers) {
                        return Ok(trailers.clone());
                    }
                    tracing::debug!(pod = %hearing.pod(), ?end, "a pod tells no more of its history for now");
                    Tally::new(archive.fleet, "history").ended(hearing.pod(), end);
                    let rest = Listener::Resting(Instant::now() + PAUSE);
                    listeners.pods.insert(hearing.pod().clone(), rest);
                }
            },
            () = reply.gone() => return Err(Gone),
            // Only the fleet drops the sender.
            Ok(()) = snapshots.changed() => {}
            () = sleep_until(rested.unwrap_or_else(Instant::now)), if rested.is_some() => {}
        }
    }
}

/// Whether a pod's word is about the question and not about the pod, so that every other pod would say the same.
fn is_final(trailers: &HeaderMap) -> bool {
    let of_pod = [Code::Ok, Code::Cancelled, Code::Unavailable].map(|code| code as u16);
    wire::code(trailers).is_some_and(|code| !of_pod.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_question_ends_it_for_all_pods() {
        for (code, last) in
            [(Code::Ok, false), (Code::Cancelled, false), (Code::Unavailable, false), (Code::NotFound, true)]
        {
            assert_eq!(is_final(&Status::new(code, "").trailers()), last, "{code:?}");
        }
        assert!(!is_final(&HeaderMap::new()));
    }
}
