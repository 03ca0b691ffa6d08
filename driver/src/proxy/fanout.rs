//! One call that every pod of a node answers in part: disk usage and prune, and the rounds that history and contents need.

mod archive;
mod hearing;
mod reply;
mod tally;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};

pub(super) use self::archive::{Archive, Owner, Round};
pub(super) use self::hearing::{Heard, Hearing, Patience, own_question};
pub(super) use self::reply::{Gone, Reply, end};
pub(super) use self::tally::Tally;
use super::unary::{self, Question};
use crate::wire::{self, Code, Status};

/// A pod measures the parts of its cache that it has not measured yet, which takes long when there are many; but whoever
/// asks for the usage of all pods waits for the slowest.
const USAGE: Duration = Duration::from_secs(60);

/// The usage of all pods' caches as one list.
pub(super) async fn disk_usage(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, archive: &Archive<'_>) {
    let Some(question) = question(request, &mut respond).await else { return };
    let (records, trailers) = tokio::select! {
        usage = usage(&question, archive) => usage,
        () = unary::cancelled(&mut respond) => return,
    };
    if wire::code(&trailers) != Some(0) {
        return end(&mut respond, trailers);
    }
    // All that the answer has is a repeated field, and that of several answers behind each other is one answer.
    let length = records.iter().map(Bytes::len).sum::<usize>();
    let framing = Bytes::copy_from_slice(&wire::prefix(length));
    let Ok(mut reply) = Reply::begin(&mut respond, None) else { return };
    for piece in std::iter::once(framing).chain(records) {
        if reply.send(piece).await.is_err() {
            return;
        }
    }
    reply.end(trailers);
}

/// Each pod's records as they came, without framing, and how the call ends.
async fn usage(question: &Question, archive: &Archive<'_>) -> (Vec<Bytes>, HeaderMap) {
    let Round { hearings, mut tally } = archive.everyone(question, Patience::Working(Some(USAGE)), "disk usage").await;
    let mut records = Vec::new();
    for (hearing, messages, end) in join_all(hearings.into_iter().map(whole)).await {
        records.extend(messages.into_iter().map(|message| message.slice(5..)));
        tally.ended(hearing.pod(), end);
    }
    (records, tally.of_report())
}

/// All that a pod says, and its end.
pub(super) async fn whole(mut hearing: Hearing) -> (Hearing, Vec<Bytes>, Heard) {
    let mut messages = Vec::new();
    loop {
        match hearing.next().await {
            Heard::Message(message) => messages.push(message),
            end => return (hearing, messages, end),
        }
    }
}

/// Trims every pod's cache. It has not succeeded before all of them have, and the others are not stopped when one fails.
pub(super) async fn prune(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, archive: &Archive<'_>) {
    let Some(question) = question(request, &mut respond).await else { return };
    let Ok(mut reply) = Reply::begin(&mut respond, None) else { return };
    if let Ok(tally) = interleaved(&question, Patience::Working(None), "prune", archive, &mut reply).await {
        reply.end(tally.of_task());
    }
}

/// What all pods say, in the order in which it comes.
pub(super) async fn interleaved<'a>(
    question: &Question,
    patience: Patience,
    call: &'static str,
    archive: &Archive<'a>,
    reply: &mut Reply,
) -> Result<Tally<'a>, Gone> {
    let Round { hearings, mut tally } = tokio::select! {
        round = archive.everyone(question, patience, call) => round,
        () = reply.gone() => return Err(Gone),
    };
    let mut talking: FuturesUnordered<_> = hearings.into_iter().map(next).collect();
    loop {
        let said = tokio::select! {
            said = talking.next() => said,
            () = reply.gone() => return Err(Gone),
        };
        match said {
            None => return Ok(tally),
            Some((hearing, Heard::Message(message))) => {
                reply.send(message).await?;
                talking.push(next(hearing));
            }
            Some((hearing, end)) => tally.ended(hearing.pod(), end),
        }
    }
}

/// What one pod says from now on, and how it ends.
pub(super) async fn pass_on(hearing: &mut Hearing, reply: &mut Reply) -> Result<HeaderMap, Gone> {
    loop {
        let heard = tokio::select! {
            heard = hearing.next() => heard,
            () = reply.gone() => return Err(Gone),
        };
        match heard {
            Heard::Message(message) => reply.send(message).await?,
            end => return Ok(end.trailers()),
        }
    }
}

/// The next thing that a pod says, with the pod.
pub(super) async fn next(mut hearing: Hearing) -> (Hearing, Heard) {
    let heard = hearing.next().await;
    (hearing, heard)
}

/// Reads a call that has one message; `None` when there is nobody or nothing left to answer.
pub(super) async fn question(request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Option<Question> {
    let question = Question::read(request, respond).await?;
    if question.body().first().is_some_and(|flag| *flag != 0) {
        // No client of BuildKit does this; and what is compressed cannot be sorted, cut or sent on to several pods' ends.
        end(respond, Status::new(Code::Unimplemented, "compressed requests are not understood here").trailers());
        return None;
    }
    // Answers of several pods are put together, which compressed ones cannot be.
    Some(question.without_header("grpc-accept-encoding"))
}
