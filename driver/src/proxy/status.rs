//! Control.Status: a build's progress from whichever pods it runs on, with steps of our own between.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use buildfleet_proto::buildkit::StatusRequest;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use tokio::sync::watch;

use super::answers;
use super::build::{Build, Stage};
use super::builds::Found;
use super::client::Client;
use super::fanout::{self, Gone, Reply};
use super::history;
use super::unary::{self, Question};
use super::vertex::Step;
use crate::fleet::{Lease, NodeSnapshot};
use crate::wire::{self, Code, Status};

/// A pod that is found in less needs no step of its own.
const AT_ONCE: Duration = Duration::from_millis(300);

/// With a ready pod the wait is only for the builds that came before, which is nothing to tell.
const IN_TURN: Duration = Duration::from_secs(5);

/// What the end of a build may take to be known after the end of its progress, or the other way round.
const END: Duration = Duration::from_secs(5);

/// Serves one Status call.
pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, client: &Arc<Client>) {
    let Some(question) = Question::read(request, &mut respond).await else { return };
    let reference = unary::message::<StatusRequest>(question.body()).unwrap_or_default().r#ref;
    let archive = client.archive();
    let found = tokio::select! {
        biased;
        found = client.node().builds().find(client.id(), &reference) => found,
        lease = history::elsewhere(&archive, &reference) => return history::log(&question, respond, lease).await,
        () = unary::cancelled(&mut respond) => return,
    };
    let build = match found {
        Some(Found::Build(build)) => build,
        Some(Found::Nothing) => return fanout::end(&mut respond, Status::new(Code::Ok, "").trailers()),
        None => return history::unknown(&question, &reference, respond, &archive).await,
    };
    let Ok(reply) = Reply::begin(&mut respond, answers::now()) else { return };
    let stage = build.stage();
    let mut progress = Progress { build, question, reply, stage, steps: 0 };
    if let Ok(trailers) = progress.run().await {
        progress.reply.end(trailers);
    }
}

struct Progress {
    build: Arc<Build>,
    question: Question,
    reply: Reply,
    stage: watch::Receiver<Stage>,
    /// How many of our own were begun.
    steps: usize,
}

impl Progress {
    async fn run(&mut self) -> Result<HeaderMap, Gone> {
        let mut shown = None;
        loop {
            let stage = self.stage.borrow_and_update().clone();
            match stage {
                Stage::Over(None) => return Ok(Status::new(Code::Ok, "").trailers()),
                Stage::Over(Some(status)) => return Ok(status.trailers()),
                Stage::Seeking { after } => self.show_search(after).await?,
                Stage::Placed { attempt, pod } if shown != Some(attempt) => {
                    if shown.is_none() && self.steps == 0 {
                        self.show_drift().await?;
                    }
                    shown = Some(attempt);
                    if let Some(trailers) = self.copy(&pod).await? {
                        return Ok(trailers);
                    }
                }
                Stage::Held | Stage::Placed { .. } => self.changed().await?,
            }
        }
    }

    async fn changed(&mut self) -> Result<(), Gone> {
        tokio::select! {
            // Without a sender the build is over, and said so before.
            _ = self.stage.changed() => Ok(()),
            () = self.reply.gone() => Err(Gone),
        }
    }

    /// What somebody did to the node's pods, as a step of its own, where no wait for them has told it.
    async fn show_drift(&mut self) -> Result<(), Gone> {
        let node = Arc::clone(self.build.client().node().fleet());
        let Some(drift) = node.watch().borrow().drift.clone() else { return Ok(()) };
        let name = format!("[buildfleet] {} is not as it was made", node.name());
        let step = Step::begin(self.build.reference(), self.steps, name);
        self.steps += 1;
        self.reply.send(step.message()).await?;
        self.reply.send(step.line(&drift)).await?;
        self.reply.send(step.end(None)).await
    }

    /// The story of the wait for a pod, as a step, until the wait is over.
    async fn show_search(&mut self, after: Option<String>) -> Result<(), Gone> {
        let first = after.is_none();
        let node = Arc::clone(self.build.client().node().fleet());
        let patience = if node.watch().borrow().ready > 0 { IN_TURN } else { AT_ONCE };
        if first && let Ok(changed) = tokio::time::timeout(patience, self.changed()).await {
            return changed;
        }
        let what = if first { "starting" } else { "starting again on another pod of" };
        let step = Step::begin(self.build.reference(), self.steps, format!("[buildfleet] {what} {}", node.name()));
        self.steps += 1;
        self.reply.send(step.message()).await?;
        if let Some(why) = &after {
            self.reply.send(step.line(why)).await?;
        }
        let mut snapshots = node.watch();
        let mut told = HashSet::new();
        if !first {
            // What happened before another pod was needed is no news.
            news(&snapshots.borrow(), &mut told);
        }
        loop {
            let news = news(&snapshots.borrow_and_update(), &mut told);
            for line in news {
                self.reply.send(step.line(&line)).await?;
            }
            tokio::select! {
                changed = self.changed() => break changed?,
                // Without a fleet the wait fails, which is a change of the stage.
                Ok(()) = snapshots.changed() => {}
            }
        }
        let stage = self.stage.borrow().clone();
        let error = match stage {
            Stage::Over(Some(status)) => Some(status.message),
            Stage::Placed { pod, .. } => {
                self.reply.send(step.line(&format!("building on {}", pod.pod()))).await?;
                None
            }
            Stage::Held | Stage::Seeking { .. } | Stage::Over(None) => None,
        };
        self.reply.send(step.end(error)).await
    }

    /// Copies the progress from a pod. Returns the trailers when that was all.
    async fn copy(&mut self, pod: &Lease) -> Result<Option<HeaderMap>, Gone> {
        let mut stage = self.stage.clone();
        let left = async {
            // Without a sender the build is over, and its progress may still be on its way.
            let elsewhere = stage.wait_for(|stage| matches!(stage, Stage::Seeking { .. }));
            if elsewhere.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(END).await;
        };
        let trailers = tokio::select! {
            copied = copy(&self.question, pod, &mut self.reply, self.build.left_behind()) => copied?,
            () = left => None,
        };
        // A pod's word on the build's end is final only when its Solve says the same.
        let settled = match tokio::time::timeout(END, self.changed()).await {
            Ok(changed) => changed.map(|()| true)?,
            Err(_) => false,
        };
        let over = matches!(&*self.stage.borrow(), Stage::Over(None)) || !settled;
        Ok(if over { trailers } else { None })
    }
}

/// Whole messages only, so that others fit between. `None` when the pod broke off. A pod that has not said anything when the
/// build is `over` will not.
async fn copy(
    question: &Question,
    pod: &Lease,
    reply: &mut Reply,
    over: impl Future<Output = Status>,
) -> Result<Option<HeaderMap>, Gone> {
    let begun = async { question.ask(pod.requests().await?).await?.begin().await };
    let (head, mut from) = match begun.await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::debug!(pod = %pod.pod(), %error, "a pod gave no progress");
            return Ok(None);
        }
    };
    if from.is_end_stream() {
        return Ok(Some(wire::only_status(head.headers())));
    }
    let mut buffer = BytesMut::new();
    let mut over = std::pin::pin!(over);
    let mut heard = false;
    loop {
        let chunk = tokio::select! {
            chunk = from.data() => chunk,
            () = reply.gone() => return Err(Gone),
            _ = &mut over, if !heard => return Ok(Some(Status::new(Code::Ok, "").trailers())),
        };
        heard = true;
        let Some(chunk) = chunk else { break };
        let Ok(chunk) = chunk else { return Ok(None) };
        let length = chunk.len();
        buffer.extend_from_slice(&chunk);
        let whole = whole_messages(&mut buffer);
        if !whole.is_empty() {
            reply.send(whole).await?;
        }
        let _ = from.flow_control().release_capacity(length);
    }
    match from.trailers().await {
        Ok(trailers) => Ok(Some(trailers.unwrap_or_else(|| Status::new(Code::Ok, "").trailers()))),
        Err(_) => Ok(None),
    }
}

fn whole_messages(buffer: &mut BytesMut) -> Bytes {
    let mut end = 0;
    while let Some(length) = wire::framed_length(&buffer[end..]).filter(|length| *length <= buffer.len() - end) {
        end += length;
    }
    buffer.split_to(end).freeze()
}

/// The lines of the story that were not told yet.
fn news(snapshot: &NodeSnapshot, told: &mut HashSet<String>) -> Vec<String> {
    let lines = snapshot.story.iter().map(|(pod, line)| match pod {
        Some(pod) => format!("{pod}: {}", line.text),
        None => line.text.clone(),
    });
    lines.filter(|line| told.insert(line.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_messages_are_let_through() {
        let one = wire::message(&StatusRequest { r#ref: "one".to_owned() });
        let two = wire::message(&StatusRequest { r#ref: "second".to_owned() });
        let all = [&one[..], &two[..]].concat();
        for cut in 0..=all.len() {
            let mut buffer = BytesMut::from(&all[..cut]);
            let through = whole_messages(&mut buffer);
            let wanted = if cut == all.len() {
                all.len()
            } else if cut >= one.len() {
                one.len()
            } else {
                0
            };
            assert_eq!(through.len(), wanted, "cut at {cut}");
            assert_eq!(buffer.len(), cut - wanted, "cut at {cut}");
        }
    }
}
