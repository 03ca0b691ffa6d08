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
