//! Hands a context over to the pod that waits for it: through an exec, as fast as the pod takes it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::{Events, JobError, JobEvent};
use crate::backend::BoxError;
use crate::backend::kubernetes::client::Connection;
use crate::backend::kubernetes::dial;
use crate::builder::PodName;
use crate::manifest::{CONTEXT_CONTAINER, receive_context};

/// A block is held in the pod's memory as a whole, and each costs the pod a process of `dd`.
const BLOCK_MAX: usize = 1 << 20;

/// So many pieces make one block if they are there: some clients send 32 KiB at a time.
const TOGETHER: usize = BLOCK_MAX / (32 << 10);

/// How long `tar` may take for what is still on the way when all was sent.
const UNPACK: Duration = Duration::from_secs(300);

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// A context as it comes; an error when it breaks off.
pub type Pieces<'a> = futures::stream::BoxStream<'a, Result<Bytes, BoxError>>;

/// Returns when the pod has all of it.
pub(super) async fn upload(
    connection: &Connection,
    pod: &PodName,
    mut context: Pieces<'_>,
    events: &Events,
) -> Result<(), JobError> {
    let failed = |source: BoxError| JobError::Upload { pod: pod.to_string(), source };
    let stream = dial::command(connection, pod, CONTEXT_CONTAINER, receive_context()).await.map_err(failed)?;
    let (mut said, mut input) = tokio::io::split(stream);
    let mut ended = std::pin::pin!(async move {
        // It prints nothing; what it says of a failure comes as the error.
        said.read_to_end(&mut Vec::new()).await.map(drop)
    });
    let sending = async {
        let sent = send(&mut input, &mut context, events).await?;
        // Progress is told now and then; this is all of it.
        let _ = events.send(JobEvent::Uploaded(sent)).await;
        Ok::<_, Broken>(())
    };
    let sent = tokio::select! {
        biased;
        end = &mut ended => {
            let early = || io::Error::new(io::ErrorKind::UnexpectedEof, "the pod has taken only a part of it");
            return Err(failed(end.err().unwrap_or_else(early).into()));
        }
        sent = sending => sent,
    };
    match sent {
        Ok(()) => {}
        Err(Broken::Off) => return Err(JobError::BrokenOff),
        // Why it takes nothing more is what the command says.
        Err(Broken::Way(error)) => {
            let end = timeout(Duration::from_secs(2), &mut ended).await;
            let told = end.ok().and_then(Result::err).unwrap_or(error);
            return Err(failed(told.into()));
        }
    }
    match timeout(UNPACK, ended).await {
        Ok(ended) => ended.map_err(|error| failed(error.into())),
        Err(_) => Err(failed(format!("it was not unpacked within {} s", UNPACK.as_secs()).into())),
    }
}

enum Broken {
    /// By whoever sends the context.
    Off,
    Way(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Way(error)
    }
}

async fn send(
    input: &mut (impl AsyncWriteExt + Unpin),
    context: &mut (impl Stream<Item = Result<Bytes, BoxError>> + Unpin),
    events: &Events,
) -> Result<u64, Broken> {
    let (mut sent, mut told) = (0, Instant::now());
    let mut context = context.ready_chunks(TOGETHER);
    while let Some(pieces) = context.next().await {
        let pieces: Vec<Bytes> = pieces.into_iter().collect::<Result<_, _>>().map_err(|_| Broken::Off)?;
        for block in pieces.concat().chunks(BLOCK_MAX) {
            input.write_all(format!("{}\n", block.len()).as_bytes()).await?;
            input.write_all(block).await?;
            input.flush().await?;
            sent += u64::try_from(block.len()).unwrap_or_default();
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let _ = events.send(JobEvent::Uploaded(sent)).await;
        }
    }
    input.write_all(b"0\n").await?;
    input.flush().await?;
    Ok(sent)
}
