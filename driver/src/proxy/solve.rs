//! Control.Solve: open for as long as its build, on whichever pod that runs.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::build::Build;
use super::client::Client;
use super::outcome::{Outcome, outcome};
use super::unary::{self, Question};
use super::{answers, forward};
use crate::wire::{self, Code, Status};

pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, client: &Arc<Client>) {
    let Some(question) = Question::read(request, &mut respond).await else { return };
    // A message that cannot be read is for the pod to refuse.
    let peeked = unary::message(question.body()).unwrap_or_default();
    let build = Arc::new(Build::new(Arc::clone(client), question, peeked));
    let Some(_registered) = client.node().builds().register(&build) else {
        // In `buildkitd`'s words (`solver/jobs.go`, v0.33).
        let text = format!("job ID {} exists", build.reference());
        return forward::refuse(&mut respond, &Status::new(Code::Unknown, text));
    };
    tokio::select! {
        () = unary::cancelled(&mut respond) => {}
        () = build.wanted_nothing() => {
            build.end();
            answers::send(respond, Some(wire::message(&())));
        }
        end = run(&build) => match end {
            End::Answer(answer) => {
                build.end();
                answer.give(respond).await;
            }
            End::Reset(reason) => respond.send_reset(reason),
            End::Refused(status) => forward::refuse(&mut respond, &status),
        }
    }
}

enum End {
    Answer(Box<unary::Answer>),
    Reset(h2::Reason),
    Refused(Status),
}

async fn run(build: &Arc<Build>) -> End {
    let mut number = 0;
    loop {
        let placed = match build.attempt(number).await {
            Ok(placed) => placed,
            Err(status) => return End::Refused(status),
        };
        // Only this call takes it, once for each try.
        let Some(solve) = placed.take_solve() else { return End::Reset(h2::Reason::INTERNAL_ERROR) };
        match outcome(placed.lease(), solve.answer().await).await {
            Outcome::Answered(answer) => {
                build.ended_on(placed.lease().pod());
                return End::Answer(answer);
            }
            Outcome::Reset(reason) => return End::Reset(reason),
            Outcome::Lost(text) => match build.lost(&placed, &text) {
                Ok(()) => number += 1,
                Err(status) => return End::Refused(status),
            },
        }
    }
}
