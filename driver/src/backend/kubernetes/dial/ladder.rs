//! Tries ways one after the other, each with a head start on the next, and takes the first that answers.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

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
    open: impl Fn(Transport) -> F,
) -> Result<(Transport, T), Vec<(Transport, Failure)>>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut waiting = steps.iter().copied();
    let mut trying = FuturesUnordered::new();
    let mut failures = Vec::new();
    let join = |way: Transport| {
        let attempt = open(way);
        async move { (way, attempt.await) }
    };
    let mut newest = match waiting.next() {
        Some(way) => way,
        None => return Err(failures),
    };
    trying.push(join(newest));
    loop {
        tokio::select! {
            biased;
            Some((way, outcome)) = trying.next() => match outcome {
                Ok(stream) => return Ok(faster(way, stream, &failures, &open).await),
                Err(failure) => {
                    let is_final = is_final(way, &failure);
                    failures.push((way, failure));
                    if is_final {
                        return Err(failures);
                    }
                }
            },
            () = tokio::time::sleep(head_start(newest)), if !trying.is_empty() && waiting.len() > 0 => {}
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
    }
}

/// A pod that begins to listen between two tries refuses the fastest way and answers a slower one. The connection is kept
/// long: the refused way gets one more try.
async fn faster<T, F>(
    way: Transport,
    stream: T,
    failures: &[(Transport, Failure)],
    open: &impl Fn(Transport) -> F,
) -> (Transport, T)
where
    F: Future<Output = Result<T, Failure>>,
{
    let refused = failures.iter().find(|(_, failure)| matches!(failure, Failure::Refused(_)));
    let Some((refused, _)) = refused else { return (way, stream) };
    match tokio::time::timeout(head_start(*refused), open(*refused)).await {
        Ok(Ok(better)) => (*refused, better),
        Ok(Err(_)) | Err(_) => (way, stream),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::{Instant, sleep};

    use super::*;

    const ALL: [Transport; 3] = [Transport::PodIp, Transport::PortForward, Transport::Exec];

    /// How one way behaves: after so many milliseconds, this.
    type Script = fn(u32) -> (u64, Result<(), Failure>);

    /// Climbs `ALL` with three scripts, which are told how often their way was tried before. Returns the way that was
    /// taken, or the ways that failed; which ways were tried; and the milliseconds that passed.
    async fn climbed(scripts: [Script; 3]) -> (Result<Transport, Vec<Transport>>, Vec<Transport>, u128) {
        let tried = RefCell::new(Vec::new());
        let begun = Instant::now();
        let outcome = climb(&ALL, |way| {
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
            Ok((way, ())) => Ok(way),
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
        assert_eq!((taken, tried, took), (Ok(Transport::PodIp), vec![Transport::PodIp], 5));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_without_a_route_costs_its_head_start() {
        let (taken, tried, took) = climbed([|_| (1000, other()), |_| (10, Ok(())), |_| (0, Ok(()))]).await;
        assert_eq!((taken, tried, took), (Ok(Transport::PortForward), ALL[..2].to_vec(), 160));
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_fails_makes_room_at_once() {
        let (taken, tried, took) = climbed([|_| (1, other()), |_| (1, other()), |_| (100, Ok(()))]).await;
        assert_eq!((taken, tried, took), (Ok(Transport::Exec), ALL.to_vec(), 102));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_does_not_listen_yet_is_reported_at_once() {
        let (taken, tried, took) = climbed([|_| (1, refused()), |_| (10, refused()), |_| (0, Ok(()))]).await;
        assert_eq!((taken, tried, took), (Err(ALL[..2].to_vec()), ALL[..2].to_vec(), 11));
        let (taken, _, took) = climbed([|_| (1000, other()), |_| (10, refused()), |_| (0, Ok(()))]).await;
        assert_eq!((taken, took), (Err(vec![Transport::PortForward]), 160));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_begins_to_listen_between_two_ways_is_reached_by_the_faster_one() {
        let (taken, tried, _) =
            climbed([|tried| (1, if tried == 0 { refused() } else { Ok(()) }), |_| (10, Ok(())), |_| (0, Ok(()))])
                .await;
        let expected = vec![Transport::PodIp, Transport::PortForward, Transport::PodIp];
        assert_eq!((taken, tried), (Ok(Transport::PodIp), expected));
    }

    #[tokio::test(start_paused = true)]
    async fn what_refuses_for_ever_does_not_keep_the_slower_way_from_being_taken() {
        let (taken, ..) =
            climbed([|tried| (if tried == 0 { 1 } else { 60_000 }, refused()), |_| (10, Ok(())), |_| (0, Ok(()))])
                .await;
        assert_eq!(taken, Ok(Transport::PortForward));
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
