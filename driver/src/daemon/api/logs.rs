//! The output of a node's pods, merged as it comes.

use std::collections::BTreeSet;
use std::time::Duration;

use buildfleet_proto::fleet::LogChunk;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Status;

use super::status;
use crate::backend::{LogsError, LogsWanted, SharedBackend};
use crate::builder::{NodeName, PodName};
use crate::shutdown::Shutdown;

/// How long the backend may take to say which pods there are.
const FIRST_LOOK: Duration = Duration::from_secs(10);

type Chunks = mpsc::Sender<Result<LogChunk, Status>>;

/// Reads the pods that there are, and with `follow` those that come later.
pub(super) async fn logs(
    node: NodeName,
    backend: SharedBackend,
    wanted: LogsWanted,
    shutdown: &Shutdown,
) -> Result<mpsc::Receiver<Result<LogChunk, Status>>, Status> {
    let mut pods = backend.pods();
    let known = timeout(FIRST_LOOK, pods.wait_for(|pods| pods.known)).await.is_ok_and(|known| known.is_ok());
    if !known {
        return Err(Status::unavailable(format!(
            "the pods of node {node} are not known: its backend cannot be reached"
        )));
    }
    if !wanted.follow && pods.borrow().pods.is_empty() {
        return Err(Status::failed_precondition(format!("node {node} has no pods")));
    }
    let (sender, receiver) = mpsc::channel(64);
    let draining = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = read_all(&backend, wanted, &sender) => {}
            () = sender.closed() => {}
            () = draining.draining() => drop(sender.try_send(Err(status::shutting_down()))),
        }
    });
    Ok(receiver)
}

async fn read_all(backend: &SharedBackend, wanted: LogsWanted, chunks: &Chunks) {
    let mut pods = backend.pods();
    let mut seen = BTreeSet::new();
    let mut reading = JoinSet::new();
    loop {
        let names: Vec<PodName> = pods.borrow_and_update().pods.iter().map(|pod| pod.name.clone()).collect();
        for name in names {
            if seen.insert(name.clone()) {
                reading.spawn(read(SharedBackend::clone(backend), name, wanted, chunks.clone()));
            }
        }
        tokio::select! {
            changed = pods.changed(), if wanted.follow => if changed.is_err() { break },
            ended = reading.join_next() => match ended {
                Some(Err(error)) => tracing::error!(%error, "the reading of a pod's output was interrupted"),
                Some(Ok(())) => {}
                None if wanted.follow => if pods.changed().await.is_err() { break },
                None => break,
            }
        }
    }
    while reading.join_next().await.is_some() {}
}

async fn read(backend: SharedBackend, pod: PodName, wanted: LogsWanted, chunks: Chunks) {
    let mut stream = match backend.logs(&pod, wanted).await {
        Ok(stream) => stream,
        Err(error) => return fail(&chunks, &error).await,
    };
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(data) => {
                let chunk = LogChunk { pod: pod.to_string(), data: data.to_vec() };
                if chunks.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            Err(error) => return fail(&chunks, &error).await,
        }
    }
}

/// A pod that has gone meanwhile has no more to say, and the others go on.
async fn fail(chunks: &Chunks, error: &LogsError) {
    if !matches!(error, LogsError::Gone(_)) {
        let _ = chunks.send(Err(status::logs(error))).await;
    }
}
