//! The history of builds: which pod has a build's record, and the records of all pods as one list.

mod follow;
mod order;

use std::time::Duration;

use buildfleet_proto::buildkit::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRequest, UpdateBuildHistoryRequest,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};

use self::order::Told;
use super::answers;
use super::fanout::{self, own_question};
use super::fanout::{Archive, Gone, Heard, Hearing, Owner, Patience, Reply, Round, Tally};
use super::unary::{self, Question};
use crate::builder::PodName;
use crate::fleet::Lease;
use crate::wire::{self, Code, Status};

const LISTEN: &str = "http://localhost/moby.buildkit.v1.Control/ListenBuildHistory";

/// A client opens the calls of a build right after each other, in any order: before then, a build that is not known here may
/// be about to begin.
const BEGINS: Duration = Duration::from_millis(200);

/// With this ref buildx asks, after each build, whether there is a history at all (`driver/driver.go`, v0.36). No build has
/// it, and no pod's silence may hold up the end of a build.
const PROBE: &str = "buildx-test-history-api-feature";

/// ListenBuildHistory.
pub(super) async fn listen(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, archive: &Archive<'_>) {
    let Some(question) = fanout::question(request, &mut respond).await else { return };
    let asked: BuildHistoryRequest = unary::message(question.body()).unwrap_or_default();
    let Ok(mut reply) = Reply::begin(&mut respond, answers::now()) else { return };
    let trailers = if asked.early_exit {
        report(&question, &asked, archive, &mut reply).await
    } else {
        follow::follow(&question, &asked, archive, &mut reply).await
    };
    if let Ok(trailers) = trailers {
        reply.end(trailers);
    }
}

/// What is known now.
async fn report(
    question: &Question,
    asked: &BuildHistoryRequest,
    archive: &Archive<'_>,
    reply: &mut Reply,
) -> Result<HeaderMap, Gone> {
    if asked.r#ref == PROBE {
        return Ok(Status::new(Code::Ok, "").trailers());
    }
    if !asked.r#ref.is_empty() {
        return report_of(question, &asked.r#ref, archive, reply).await;
    }
    let (told, tally) = tokio::select! {
        told = told_by_all(question, archive) => told,
        () = reply.gone() => return Err(Gone),
    };
    for message in order::in_order(told, asked.limit) {
        reply.send(message).await?;
    }
    Ok(tally.of_report())
}

/// What is known of one build now.
async fn report_of(
    question: &Question,
    reference: &str,
    archive: &Archive<'_>,
    reply: &mut Reply,
) -> Result<HeaderMap, Gone> {
    let owner = tokio::select! {
        owner = archive.owner(reference) => owner,
        () = reply.gone() => return Err(Gone),
    };
    let mut away = None;
    match owner {
        Owner::Here(lease) => {
            let hearing = Hearing::new(lease, question, Patience::Prompt);
            if let Some(trailers) = told_by_owner(hearing, archive, reply).await? {
                return Ok(trailers);
            }
        }
        Owner::Away(why) => away = Some(why),
        Owner::Unknown => {}
    }
    let found = tokio::select! {
        found = search(archive, reference) => found,
        () = reply.gone() => return Err(Gone),
    };
    match (found, away) {
        (Ok(lease), _) => {
            let hearing = Hearing::new(lease, question, Patience::Prompt);
            let told = told_by_owner(hearing, archive, reply).await?;
            Ok(told.unwrap_or_else(|| Status::new(Code::Ok, "").trailers()))
        }
        // The call is about something on that pod.
        (Err(_), Some(why)) => Ok(Status::new(Code::Unavailable, why).trailers()),
        (Err(tally), None) => Ok(tally.of_report()),
    }
}

/// Passes on what a build's pod says of it. `None` when that was nothing: it may have forgotten what another pod knows.
async fn told_by_owner(
    mut hearing: Hearing,
    archive: &Archive<'_>,
    reply: &mut Reply,
) -> Result<Option<HeaderMap>, Gone> {
    let mut nothing = true;
    loop {
        let heard = tokio::select! {
            heard = hearing.next() => heard,
            () = reply.gone() => return Err(Gone),
        };
        match heard {
            Heard::Message(message) => {
                nothing = false;
                learn(archive, &message, hearing.pod());
                reply.send(message).await?;
            }
            Heard::End(trailers) if nothing && wire::code(&trailers) == Some(0) => return Ok(None),
            Heard::End(trailers) => return Ok(Some(trailers)),
            Heard::Failed(status) => return Ok(Some(status.trailers())),
        }
    }
}

/// All events of all pods: held, because they cannot be sorted before the last pod has told its own. A pod keeps 50 builds
/// by default.
async fn told_by_all<'a>(question: &Question, archive: &Archive<'a>) -> (Vec<Told>, Tally<'a>) {
    let Round { hearings, mut tally } = archive.everyone(question, Patience::Prompt, "history").await;
    let mut told = Vec::new();
    for (hearing, messages, end) in join_all(hearings.into_iter().map(fanout::whole)).await {
        for message in messages {
            let event = learn(archive, &message, hearing.pod());
            told.push(Told::new(&event, message));
        }
        tally.ended(hearing.pod(), end);
    }
    (told, tally)
}

/// Keeps where a record and its contents are.
fn learn(archive: &Archive<'_>, message: &Bytes, pod: &PodName) -> BuildHistoryEvent {
    let event: BuildHistoryEvent = unary::message(message).unwrap_or_default();
    if let Some(record) = &event.record {
        match event.r#type() {
            BuildHistoryEventType::Started => {}
            BuildHistoryEventType::Complete => archive.finished.learn(record, pod),
            BuildHistoryEventType::Deleted => archive.finished.forget(&record.r#ref, pod),
        }
    }
    event
}

/// The pod that a build runs on, or that has its record: the one that is known, or else the first of all that says so.
pub(super) async fn find_ref(archive: &Archive<'_>, reference: &str) -> Option<Lease> {
    match archive.owner(reference).await {
        Owner::Here(lease) => Some(lease),
        Owner::Away(_) | Owner::Unknown => search(archive, reference).await.ok(),
    }
}

/// The pod that knows of a build which no client of this daemon runs now; does not resolve when there is none.
pub(super) async fn elsewhere(archive: &Archive<'_>, reference: &str) -> Lease {
    // As with one `buildkitd`, the record of a build that is over counts before a build to come.
    if archive.finished.owner(reference).is_none() {
        tokio::time::sleep(BEGINS).await;
    }
    match find_ref(archive, reference).await {
        Some(lease) => lease,
        None => std::future::pending().await,
    }
}

/// Status of such a build: its log, or its progress.
pub(super) async fn log(question: &Question, mut respond: SendResponse<Bytes>, lease: Lease) {
    let Ok(mut reply) = Reply::begin(&mut respond, answers::now()) else { return };
    let mut hearing = Hearing::new(lease, question, Patience::Working(None));
    if let Ok(trailers) = fanout::pass_on(&mut hearing, &mut reply).await {
        reply.end(trailers);
    }
}

/// Status of a build that nobody knows: in the words of a pod, when there is one.
pub(super) async fn unknown(
    question: &Question,
    reference: &str,
    mut respond: SendResponse<Bytes>,
    archive: &Archive<'_>,
) {
    match archive.anyone() {
        Some(lease) => log(question, respond, lease).await,
        None => fanout::end(&mut respond, archive.nobody(&format!("no such job {reference}")).trailers()),
    }
}

/// Asks every pod for a build; the tally is that of a search in vain.
///
/// Not by the request's own field for a ref: a `buildkitd` that was once asked so about a build only hides the build's record
/// when it is to delete it (`solver/llbsolver/history`, v0.33), even where it had none.
async fn search<'a>(archive: &Archive<'a>, reference: &str) -> Result<Lease, Tally<'a>> {
    let plain = !reference.is_empty() && reference.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // What would have to be quoted is looked for among all.
    let filter = plain.then(|| format!("ref=={reference}")).into_iter().collect();
    let asked = BuildHistoryRequest { filter, early_exit: true, ..BuildHistoryRequest::default() };
    let question = own_question(LISTEN, &asked);
    let Round { hearings, mut tally } = archive.everyone(&question, Patience::Prompt, "history").await;
    let mut talking: FuturesUnordered<_> = hearings.into_iter().map(fanout::next).collect();
    while let Some((hearing, heard)) = talking.next().await {
        match heard {
            // Those that run are told whatever the filter says.
            Heard::Message(message) => match learn(archive, &message, hearing.pod()).record {
                Some(record) if record.r#ref == reference => return Ok(hearing.into_lease()),
                _ => talking.push(fanout::next(hearing)),
            },
            end => tally.ended(hearing.pod(), end),
        }
    }
    Err(tally)
}

/// UpdateBuildHistory: for the pod that has the record.
pub(super) async fn update(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, archive: &Archive<'_>) {
    let Some(question) = fanout::question(request, &mut respond).await else { return };
    let asked: UpdateBuildHistoryRequest = unary::message(question.body()).unwrap_or_default();
    let found = tokio::select! {
        found = pod_to_update(&asked, archive) => found,
        () = unary::cancelled(&mut respond) => return,
    };
    let lease = match found {
        Ok(Some(lease)) => lease,
        Ok(None) => return answers::send(respond, Some(wire::message(&()))),
        Err(status) => return fanout::end(&mut respond, status.trailers()),
    };
    let pod = lease.pod().clone();
    let (_, messages, end) = tokio::select! {
        answer = fanout::whole(Hearing::new(lease, &question, Patience::Working(None))) => answer,
        () = unary::cancelled(&mut respond) => return,
    };
    let trailers = end.trailers();
    if wire::code(&trailers) != Some(0) {
        return fanout::end(&mut respond, trailers);
    }
    if asked.delete {
        archive.finished.forget(&asked.r#ref, &pod);
    }
    let Ok(mut reply) = Reply::begin(&mut respond, None) else { return };
    if reply.send(Bytes::from(messages.concat())).await.is_ok() {
        reply.end(trailers);
    }
}

/// A pod that gives the right answer, also about a build that nobody knows; `None` when there is nothing left to do.
async fn pod_to_update(asked: &UpdateBuildHistoryRequest, archive: &Archive<'_>) -> Result<Option<Lease>, Status> {
    let away = match archive.owner(&asked.r#ref).await {
        Owner::Here(lease) => return Ok(Some(lease)),
        Owner::Away(why) => Some(why),
        Owner::Unknown => None,
    };
    let in_vain = match search(archive, &asked.r#ref).await {
        Ok(lease) => return Ok(Some(lease)),
        Err(tally) => tally,
    };
    if let Some(why) = away {
        return Err(Status::new(Code::Unavailable, why));
    }
    if let Some(missing) = in_vain.missing() {
        let text = format!("no record of build {} was found, but {missing}", asked.r#ref);
        return Err(Status::new(Code::Unavailable, text));
    }
    // Each `buildkitd` says of a build that it does not know what its version says of such a one.
    if let Some(lease) = archive.anyone() {
        return Ok(Some(lease));
    }
    // Without any, to finalize is what it is for `buildkitd`: nothing.
    if asked.finalize && !asked.delete {
        return Ok(None);
    }
    Err(archive.nobody(&format!("no record of build {}", asked.r#ref)))
}
