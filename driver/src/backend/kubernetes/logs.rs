//! A container's output, as a stream for users and as a short end for the story of a crash.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::try_unfold;
use futures::{AsyncRead, AsyncReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::LogParams;

use super::client::Connection;
use super::errors::{RequestError, ask, ask_within};
use super::story::Crash;
use crate::backend::{LogStream, LogsError, LogsWanted};
use crate::builder::PodName;

const CHUNK: usize = 16 * 1024;
/// The usage that `buildkitd` prints for a flag that it does not know is 61 lines long, and may come after the error.
const CRASH_LINES: i64 = 100;
const CRASH_BYTES: i64 = 32 << 10;
const CRASH_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn stream(
    connection: &Connection,
    pod: &PodName,
    container: &str,
    wanted: LogsWanted,
) -> Result<LogStream, LogsError> {
    let api: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = LogParams {
        container: Some(container.to_owned()),
        follow: wanted.follow,
        tail_lines: wanted.tail.map(i64::from),
        ..LogParams::default()
    };
    let failed = |error: RequestError| match error.is_not_found() {
        true => LogsError::Gone(pod.clone()),
        false => LogsError::Failed { pod: pod.clone(), source: error.into() },
    };
    let reader = ask(api.log_stream(pod.as_str(), &params)).await.map_err(failed)?;
    Ok(chunks(reader, pod.clone()))
}

fn chunks(reader: impl AsyncRead + Send + Unpin + 'static, pod: PodName) -> LogStream {
    let chunks = try_unfold((reader, vec![0; CHUNK]), move |(mut reader, mut buffer)| {
        let pod = pod.clone();
        async move {
            let read = reader.read(&mut buffer).await;
            let read = read.map_err(|source| LogsError::Failed { pod, source: source.into() })?;
            let chunk = Bytes::copy_from_slice(&buffer[..read]);
            Ok((read > 0).then_some((chunk, (reader, buffer))))
        }
    });
    chunks.boxed()
}

/// The output of a build, with the time of each line before it, from `since` on. It is that of the pod's only container.
pub(super) async fn timed(
    connection: &Connection,
    pod: &PodName,
    wanted: LogsWanted,
    since: Option<Timestamp>,
) -> Result<LogStream, RequestError> {
    let api: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = LogParams {
        follow: wanted.follow,
        tail_lines: wanted.tail.map(i64::from),
        timestamps: true,
        since_time: since,
        ..LogParams::default()
    };
    Ok(chunks(ask(api.log_stream(pod.as_str(), &params)).await?, pod.clone()))
}

/// The last lines before a crash.
pub(super) async fn crash_log(connection: &Connection, pod: &str, crash: &Crash) -> Result<String, RequestError> {
    let api: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = LogParams {
        container: Some(crash.container.clone()),
        previous: crash.previous,
        tail_lines: Some(CRASH_LINES),
        ..LogParams::default()
    };
    let read = async {
        let mut text = Vec::new();
        let reader = api.log_stream(pod, &params).await?;
        // The API server's own limit counts from the start of the output, not from its end.
        let limit = u64::try_from(CRASH_BYTES).unwrap_or_default();
        reader.take(limit).read_to_end(&mut text).await.map_err(kube::Error::ReadEvents)?;
        Ok(text)
    };
    Ok(String::from_utf8_lossy(&ask_within(CRASH_TIMEOUT, read).await?).into_owned())
}
