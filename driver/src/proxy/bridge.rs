//! The calls by which a client drives its own build (`moby.buildkit.v1.frontend.LLBBridge`): they go where the build is.

use std::sync::Arc;

use buildfleet_proto::buildkit::frontend::{SolveRequest, SolveResponse};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};

use super::build::Build;
use super::builds::Found;
use super::client::Client;
use super::handles;
use super::outcome::Outcome;
use super::unary::{self, Answer, Question};
use super::{answers, forward, ping};
use crate::wire::{self, Code, Status};

/// What a call does to the build that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It has to be made again on another pod.
    Changes,
    /// It asks for what another pod would answer likewise.
    Asks,
    /// The client has seen what another pod may have otherwise.
    Obstructs(&'static str),
}

impl Effect {
    fn of(method: &str) -> Self {
        match method {
            "Solve" | "Return" => Self::Changes,
            "Evaluate" | "ResolveImageConfig" | "ResolveSourceMeta" | "Inputs" | "Warn" => Self::Asks,
            "ReadFile" | "ReadDir" | "StatFile" => Self::Obstructs("files of its result were read"),
            "NewContainer" | "ReleaseContainer" | "ExecProcess" | "ReadFileContainer" | "ReadDirContainer"
            | "StatFileContainer" => Self::Obstructs("its client runs containers in it"),
            _ => Self::Obstructs("its client made a call that is not known here"),
        }
    }
}

/// Serves one call.
pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, client: &Arc<Client>) {
    let found = tokio::select! {
        found = find(request.headers(), client) => found,
        () = unary::cancelled(&mut respond) => return,
    };
    let build = match found {
        Ok(build) => build,
        Err(status) => return forward::refuse(&mut respond, &status),
    };
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    match method.as_str() {
        "Ping" => ping::serve(request, respond, &build).await,
        "ExecProcess" => stream(request, respond, &build, &method).await,
        _ => call(request, respond, &build, &method).await,
    }
}

async fn find(headers: &HeaderMap, client: &Client) -> Result<Arc<Build>, Status> {
    let mut named = headers.get_all(wire::BUILD).iter();
    let (Some(reference), None) = (named.next(), named.next()) else {
        return Err(Status::new(Code::InvalidArgument, format!("a call needs one {}", wire::BUILD)));
    };
    let reference = reference.to_str().unwrap_or_default();
    let builds = client.node().builds();
    // Its client says at its end what became of the build, and a build that was refused has ended before that.
    let found = if builds.has_ended(client.id(), reference) { None } else { builds.find(client.id(), reference).await };
    match found {
        Some(Found::Build(build)) => Ok(build),
        Some(Found::Nothing) | None => Err(Status::new(Code::NotFound, format!("no such job {reference}"))),
    }
}

/// A call in both directions: it cannot be made twice, so it goes to the present pod only.
async fn stream(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, build: &Arc<Build>, method: &str) {
    if let Effect::Obstructs(what) = Effect::of(method) {
        build.journal().obstruct(what);
    }
    build.call(None);
    let placed = tokio::select! {
        placed = build.attempt(build.latest()) => placed,
        () = unary::cancelled(&mut respond) => return,
    };
    match placed {
        Ok(placed) => forward::to_leased(request, respond, placed.lease()).await,
        Err(status) => forward::refuse(&mut respond, &status),
    }
}

async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, build: &Arc<Build>, method: &str) {
    let Some(question) = Question::read(request, &mut respond).await else { return };
    let returned = if method == "Return" { unary::message(question.body()) } else { None };
    if returned.is_some_and(|returned| build.wants_nothing(&returned)) {
        return answers::send(respond, Some(wire::message(&())));
    }
    let client = build.client();
    build.name(client.node().sessions().named_in(client.id(), question.body()));
    build.call(if method == "Solve" { unary::message::<SolveRequest>(question.body()) } else { None });
    tokio::select! {
        () = unary::cancelled(&mut respond) => {}
        status = build.left_behind() => forward::refuse(&mut respond, &status),
        end = ask(build, &question, method) => match end {
            Ok(answer) => answer.give(respond).await,
            Err(End::Reset(reason)) => respond.send_reset(reason),
            Err(End::Refused(status)) => forward::refuse(&mut respond, &status),
        }
    }
}

enum End {
    Reset(h2::Reason),
    Refused(Status),
}

async fn ask(build: &Arc<Build>, question: &Question, method: &str) -> Result<Box<Answer>, End> {
    let effect = Effect::of(method);
    let mut number = build.latest();
    loop {
        let placed = build.attempt(number).await.map_err(End::Refused)?;
        placed.attach(build);
        if let Effect::Obstructs(what) = effect {
            build.journal().obstruct(what);
        }
        match placed.ask(&question.with_body(placed.translate(question.body()))).await {
            Outcome::Answered(answer) => {
                if effect == Effect::Changes && answer.is_ok() {
                    let solved = if method == "Solve" { answer.message::<SolveResponse>() } else { None };
                    for graph in solved.iter().flat_map(handles::graphs) {
                        build.client().gave_back(graph, placed.lease().pod());
                    }
                    build.journal().record(question.clone(), solved.as_ref());
                }
                return Ok(answer);
            }
            Outcome::Reset(reason) => return Err(End::Reset(reason)),
            Outcome::Lost(text) => build.lost(&placed, &text).map_err(End::Refused)?,
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_what_they_do_to_the_build() {
        for (method, effect) in [
            ("Solve", Some(Effect::Changes)),
            ("Return", Some(Effect::Changes)),
            ("Evaluate", Some(Effect::Asks)),
            ("ResolveImageConfig", Some(Effect::Asks)),
            ("ReadFile", None),
            ("NewContainer", None),
            ("SomethingNew", None),
        ] {
            let of = Effect::of(method);
            match effect {
                Some(effect) => assert_eq!(of, effect, "{method}"),
                None => assert!(matches!(of, Effect::Obstructs(_)), "{method}"),
            }
        }
    }
}
