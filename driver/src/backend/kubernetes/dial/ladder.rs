//! Tries ways one after the other, each with a head start on the next, and takes the first that answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

use super::Failure;
use crate::backend::Transport;

/// How long a way is alone before the next one joins it.
fn head_start(way: Transport) -> Duration {
    match way {
        // An address that is routed at all answers within milliseconds.
        Transport::PodIp => Duration::from_millis(150),
        // The API server may be an ocean away: some ten round trips.
        _ => Duration::from_secs(2),
    }
}

/// How much longer pod IP has than the slower way that was there first, when the address answers: the pod is busy with its
/// start, and the connection is kept long.
const GRACE: Duration = Duration::from_secs(1);

/// Whether the pod's address has taken a connection, whatever comes of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Routed(Arc<AtomicBool>);

impl Routed {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was reached, and by which way.
#[derive(Debug)]
pub(super) struct Reached<T> {
    pub(super) way: Transport,
    pub(super) stream: T,
    /// A faster way may be open the next time.
    pub(super) by_chance: bool,
}

/// Whether other ways cannot do better.
fn is_final(way: Transport, failure: &Failure) -> bool {
    match failure {
        Failure::Gone => true,
        // The kubelet looked inside the pod. (An address may have been refused by anything in between.)
        Failure::Refused(_) => way == Transport::PortForward,
        Failure::Untrusted(_) | Failure::Other(_) => false,
    }
}

/// The first of `steps` that answers, or why each one did not, the most telling last.
pub(super) async fn climb<T, F>(
    steps: &[Transport],
    open: impl Fn(Transport, Routed) -> F,
) -> Result<Reached<T>, Vec<(Transport, Failure)>>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut waiting = steps.iter().copied();
    let mut trying = FuturesUnordered::new();
    let mut failures = Vec::new();
    let routed = Routed::default();
    let join = |way: Transport| {
        let attempt = open(way, routed.clone());
        async move { (way, attempt.await) }
    };
    let mut newest = match waiting.next() {
        Some(way) => way,
        None => return Err(failures),
    };
    trying.push(join(newest));
    let (way, stream) = loop {
        tokio::select! {
            biased;
            Some((way, outcome)) = trying.next() => match outcome {
                Ok(stream) => break (way, stream),
                Err(failure) => {
                    tracing::debug!(%way, ?failure, "a way into a pod failed");
                    let is_final = is_final(way, &failure);
                    failures.push((way, failure));
                    if is_final {
                        return Err(failures);
                    }
                }
            },
            () = tokio::time::sleep(head_start(newest)), if !trying.is_empty() && waiting.len() > 0 => {
                tracing::debug!(way = %newest, "a way into a pod is late");
            }
        }
        let alone = trying.is_empty();
        match waiting.next() {
            Some(way) => {
                newest = way;
                trying.push(join(way));
            }
            None if alone => return Err(failures),
            None => {}
        }
    };
    // A pod that begins to listen between two ways refuses the first and answers the second; one that is slow answers both of
    // them in any order.
    let was_refused = |(way, failure): &(_, _)| *way == Transport::PodIp && matches!(failure, Failure::Refused(_));
    let better = if failures.iter().any(was_refused) {
        timeout(GRACE, join(Transport::PodIp)).await.ok()
    } else if way != Transport::PodIp && failures.is_empty() && routed.is_set() {
        timeout(GRACE, trying.next()).await.ok().flatten()
    } else {
        return Ok(Reached { way, stream, by_chance: false });
    };
    Ok(match better {
        Some((better, Ok(stream))) => Reached { way: better, stream, by_chance: false },
        _ => Reached { way, stream, by_chance: true },
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::{Instant, sleep};

    use super::*;

    const ALL: [Transport; 3] = [Transport::PodIp, Transport::PortForward, Transport::Exec];

    /// How one way behaves: after so many milliseconds, this.
    type Script = fn(u32) -> (u64, Result<(), Failure>);

    /// The way that was taken and whether by chance, or the ways that failed.
    type Taken = Result<(Transport, bool), Vec<Transport>>;

    /// Climbs `ALL` with three scripts, which are told how often their way was tried before. Returns also which ways were
    /// tried, and the milliseconds that passed.
    async fn climbed(scripts: [Script; 3]) -> (Taken, Vec<Transport>, u128) {
        let tried = RefCell::new(Vec::new());
        let begun = Instant::now();
        let outcome = climb(&ALL, |way, _| {
            let before = tried.borrow().iter().filter(|tried| **tried == way).count();
            tried.borrow_mut().push(way);
            let script = scripts[ALL.iter().position(|known| *known == way).unwrap()];
            let (delay, outcome) = script(u32::try_from(before).unwrap());
            async move {
                sleep(Duration::from_millis(delay)).await;
                outcome
            }
        })
        .await;
        let outcome = match outcome {
            Ok(reached) => Ok((reached.way, reached.by_chance)),
            Err(failures) => Err(failures.into_iter().map(|(way, _)| way).collect()),
        };
        (outcome, tried.into_inner(), begun.elapsed().as_millis())
    }

    fn other() -> Result<(), Failure> {
        Err(Failure::Other("no route".into()))
    }

    fn refused() -> Result<(), Failure> {
        Err(Failure::Refused("refused".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_fastest_way_that_answers_is_taken_alone() {
        let (taken, tried, took) = climbed([|_| (5, Ok(())), |_| (0, Ok(())), |_| (0, Ok(()))]).await;
        assert_eq!((taken, tried, took), (Ok((Transport::PodIp, false)), vec![Transport::PodIp], 5));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_without_a_route_costs_its_head_start() {
        let (taken, tried, took) = climbed([|_| (1000, other()), |_| (10, Ok(())), |_| (0, Ok(()))]).await;
        assert_eq!((taken, tried, took), (Ok((Transport::PortForward, false)), ALL[..2].to_vec(), 160));
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_fails_makes_room_at_once() {
        let (taken, tried, took) = climbed([|_| (1, other()), |_| (1, other()), |_| (100, Ok(()))]).await;
        assert_eq!((taken, tried, took), (Ok((Transport::Exec, false)), ALL.to_vec(), 102));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_does_not_listen_yet_is_reported_at_once() {
        let (taken, tried, took) = climbed([|_| (1, refused()), |_| (10, refused()), |_| (0, Ok(()))]).await;
        assert_eq!((taken, tried, took), (Err(ALL[..2].to_vec()), ALL[..2].to_vec(), 11));
        let (taken, _, took) = climbed([|_| (1000, other()), |_| (10, refused()), |_| (0, Ok(()))]).await;
        assert_eq!((taken, took), (Err(vec![Transport::PortForward]), 160));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_begins_to_listen_between_two_ways_is_reached_by_the_faster_one_however_busy_it_is() {
        let (taken, tried, _) = climbed([
            |tried| if tried == 0 { (1, refused()) } else { (900, Ok(())) },
            |_| (10, Ok(())),
            |_| (0, Ok(())),
        ])
        .await;
        let expected = vec![Transport::PodIp, Transport::PortForward, Transport::PodIp];
        assert_eq!((taken, tried), (Ok((Transport::PodIp, false)), expected));
    }

    #[tokio::test(start_paused = true)]
    async fn what_refuses_for_ever_does_not_keep_the_slower_way_from_being_taken_and_is_tried_the_next_time() {
        let answers: [Script; 2] = [|_| (1, refused()), |tried| (if tried == 0 { 1 } else { 60_000 }, refused())];
        for (refuses, millis) in answers.into_iter().zip([12, 1011]) {
            let (taken, _, took) = climbed([refuses, |_| (10, Ok(())), |_| (0, Ok(()))]).await;
            assert_eq!((taken, took), (Ok((Transport::PortForward, true)), millis));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pod_ip_is_waited_for_when_its_address_answers_and_only_the_pod_is_slow() {
        let (pod_ip, port_forward) = (Transport::PodIp, Transport::PortForward);
        for (answers, millis, taken, after) in [
            (true, 900, (pod_ip, false), 900),
            (true, 60_000, (port_forward, true), 1350),
            (false, 900, (port_forward, false), 350),
        ] {
            let begun = Instant::now();
            let reached = climb(&ALL, |way, routed| async move {
                if way == pod_ip && answers {
                    routed.set();
                }
                sleep(Duration::from_millis(if way == pod_ip { millis } else { 200 })).await;
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(((reached.way, reached.by_chance), begun.elapsed().as_millis()), (taken, after));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_gone_ends_the_climb() {
        let (taken, tried, _) = climbed([|_| (1, Err(Failure::Gone)), |_| (0, Ok(())), |_| (0, Ok(()))]).await;
        assert_eq!((taken, tried), (Err(vec![Transport::PodIp]), vec![Transport::PodIp]));
    }

    #[tokio::test(start_paused = true)]
    async fn when_nothing_answers_every_failure_is_kept() {
        let (taken, ..) = climbed([|_| (1000, other()), |_| (5000, other()), |_| (1, other())]).await;
        assert_eq!(taken, Err(vec![Transport::PodIp, Transport::Exec, Transport::PortForward]));
    }
}
