//! containerd's content service: the pod that has what a digest names.
//!
//! `buildkitd` serves it read-only: a build's logs, provenance, traces and results are read by it.

use buildfleet_proto::content::InfoRequest;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};

use super::fanout::{self, Archive, Heard, Hearing, Patience, Reply, Round, own_question};
use super::forward;
use super::unary::{self, Question};
use crate::fleet::Lease;
use crate::wire::{self, Code, Status};

const INFO: &str = "http://localhost/containerd.services.content.v1.Content/Info";

/// Serves one call of the content service.
pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, archive: &Archive<'_>) {
    match request.uri().path().rsplit('/').next() {
        Some("Info" | "Read") => read(request, respond, archive).await,
        Some("List") => list(request, respond, archive).await,
        // These would write, or look at what is being written: every `buildkitd` says the same of that.
        _ => match archive.anyone() {
            Some(lease) => forward::to_leased(request, respond, &lease).await,
            None => fanout::end(&mut respond, archive.nobody("contents cannot be changed").trailers()),
        },
    }
}

/// What all pods have.
async fn list(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, archive: &Archive<'_>) {
    let Some(question) = fanout::question(request, &mut respond).await else { return };
    let Ok(mut reply) = Reply::begin(&mut respond, None) else { return };
    if let Ok(tally) = fanout::interleaved(&question, Patience::Working(None), "contents", archive, &mut reply).await {
        reply.end(tally.of_report());
    }
}

/// What one pod has. A client reads a large content by many calls, each for a part.
async fn read(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, archive: &Archive<'_>) {
    let Some(question) = fanout::question(request, &mut respond).await else { return };
    let found = tokio::select! {
        found = begin(&question, archive) => found,
        () = unary::cancelled(&mut respond) => return,
    };
    let (mut hearing, first) = match found {
        Ok(found) => found,
        Err(trailers) => return fanout::end(&mut respond, trailers),
    };
    let Ok(mut reply) = Reply::begin(&mut respond, None) else { return };
    if reply.send(first).await.is_ok()
        && let Ok(trailers) = fanout::pass_on(&mut hearing, &mut reply).await
    {
        reply.end(trailers);
    }
}

/// The pod that has the content, with the first that it says; or the end of an answer that has nothing else.
async fn begin(question: &Question, archive: &Archive<'_>) -> Result<(Hearing, Bytes), HeaderMap> {
    // The requests of both calls name the digest by the same field.
    let digest = unary::message::<InfoRequest>(question.body()).unwrap_or_default().digest;
    let known = archive.finished.holder(&digest).and_then(|pod| archive.fleet.visit(&pod));
    if let Some(lease) = known {
        let mut hearing = Hearing::new(lease, question, Patience::Prompt);
        match hearing.next().await {
            Heard::Message(first) => return Ok((hearing, first)),
            Heard::End(trailers) if wire::code(&trailers) != Some(Code::NotFound as u16) => return Err(trailers),
            // It was dropped there, or the pod is lost: another one may have the same.
            Heard::End(_) | Heard::Failed(_) => {}
        }
    }
    let mut hearing = Hearing::new(search(&digest, archive).await?, question, Patience::Prompt);
    match hearing.next().await {
        Heard::Message(first) => Ok((hearing, first)),
        end => Err(end.trailers()),
    }
}

/// The first pod that says that it has a content; or what to say when none does.
async fn search(digest: &str, archive: &Archive<'_>) -> Result<Lease, HeaderMap> {
    let question = own_question(INFO, &InfoRequest { digest: digest.to_owned() });
    let Round { hearings, mut tally } = archive.everyone(&question, Patience::Prompt, "contents").await;
    let mut talking: FuturesUnordered<_> = hearings.into_iter().map(fanout::next).collect();
    while let Some((hearing, heard)) = talking.next().await {
        match heard {
            Heard::Message(_) => {
                archive.finished.learn_digest(digest, hearing.pod());
                return Ok(hearing.into_lease());
            }
            end => tally.ended(hearing.pod(), end),
        }
    }
    if let Some(missing) = tally.missing() {
        let text = format!("content {digest} was not found, but {missing}");
        return Err(Status::new(Code::Unavailable, text).trailers());
    }
    // As `buildkitd` puts it, when there is one.
    let refusal = tally.refusal();
    Err(refusal.unwrap_or_else(|| archive.nobody(&format!("content {digest}: not found")).trailers()))
}
