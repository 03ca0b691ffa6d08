//! One pod's answer to one call, message by message, for as long as the pod shows life.

use std::future::pending;
use std::time::Duration;

use buildfleet_proto::health::HealthCheckRequest;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::builder::PodName;
use crate::fleet::Lease;
use crate::proxy::forward;
use crate::proxy::unary::Question;
use crate::wire::{self, Code, Status};

/// What a pod may take to begin an answer, or to show that it lives.
const LIFE: Duration = Duration::from_secs(5);

/// After that much silence a pod is asked for a sign of life. Not by HTTP/2's ping: `buildkitd` answers frequent ones by
/// closing the connection.
const QUIET: Duration = Duration::from_secs(2);

/// How long a pod may take for its answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) enum Patience {
    /// `buildkitd` begins this answer before it looks for anything.
    Prompt,
    /// There is work to do first, for as long as the pod lives and not for longer than this, if there is a limit.
    Working(Option<Duration>),
    /// Nothing may come for days.
    Listening,
}

/// What a pod says next.
#[derive(Debug)]
pub(in crate::proxy) enum Heard {
    /// A whole message, with its framing.
    Message(Bytes),
    /// The end, as the pod gave it: a status, good or bad.
    End(HeaderMap),
    /// No more, and why.
    Failed(Status),
}

impl Heard {
    /// The end as a client is told it.
    pub(in crate::proxy) fn trailers(self) -> HeaderMap {
        match self {
            Self::End(trailers) => trailers,
            Self::Failed(status) => status.trailers(),
            Self::Message(_) => HeaderMap::new(),
        }
    }
}

/// A call to one pod. Dropping it cancels the call.
#[derive(Debug)]
pub(in crate::proxy) struct Hearing {
    lease: Lease,
    patience: Patience,
    begun: Instant,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Awaited(Box<Question>),
    Begun { from: RecvStream, buffer: BytesMut },
}

/// Why an answer broke off.
#[derive(Debug)]
enum BrokenOff {
    Silent(Status),
    Http(h2::Error),
    /// In words that go on after "pod NAME".
    Malformed(&'static str),
}

impl From<h2::Error> for BrokenOff {
    fn from(error: h2::Error) -> Self {
        Self::Http(error)
    }
}

impl Hearing {
    /// The question is asked by the first [`Hearing::next`].
    pub(in crate::proxy) fn new(lease: Lease, question: &Question, patience: Patience) -> Self {
        let answer = Answer::Awaited(Box::new(question.clone()));
        Self { lease, patience, begun: Instant::now(), answer }
    }

    pub(in crate::proxy) fn pod(&self) -> &PodName {
        self.lease.pod()
    }

    /// Asks no more, and keeps the way to the pod.
    pub(in crate::proxy) fn into_lease(self) -> Lease {
        self.lease
    }

    /// What comes next; after an end or a failure nothing does.
    pub(in crate::proxy) async fn next(&mut self) -> Heard {
        let awaited = matches!(self.answer, Answer::Awaited(_));
        let heard = tokio::select! {
            // What has come counts, however late it is fetched.
            biased;
            heard = self.answer.next(&self.lease) => heard,
            why = doubt(&self.lease, self.patience, awaited.then_some(LIFE), self.begun) => Err(BrokenOff::Silent(why)),
        };
        let status = match heard {
            Ok(heard) => {
                if awaited {
                    self.lease.remark(None);
                }
                return heard;
            }
            Err(BrokenOff::Silent(status)) => status,
            Err(BrokenOff::Http(error)) => forward::lost(&self.lease, &error).await,
            Err(BrokenOff::Malformed(what)) => unavailable(&self.lease, what),
        };
        self.lease.remark(Some(&status.message));
        Heard::Failed(status)
    }
}

impl Answer {
    async fn next(&mut self, lease: &Lease) -> Result<Heard, BrokenOff> {
        if let Self::Awaited(question) = self {
            let (head, from) = question.ask(lease.requests().await?).await?.begin().await?;
            if head.status() != StatusCode::OK {
                return Err(BrokenOff::Malformed("does not speak gRPC"));
            }
            if from.is_end_stream() {
                return end(wire::only_status(head.headers()));
            }
            *self = Self::Begun { from, buffer: BytesMut::new() };
        }
        let Self::Begun { from, buffer } = self else { return Err(BrokenOff::Malformed("was not asked")) };
        loop {
            if let Some(message) = whole_message(buffer)? {
                return Ok(Heard::Message(message));
            }
            let Some(chunk) = from.data().await else { break };
            let chunk = chunk?;
            let _ = from.flow_control().release_capacity(chunk.len());
            buffer.extend_from_slice(&chunk);
        }
        if !buffer.is_empty() {
            return Err(BrokenOff::Malformed("ended its answer in the middle of a message"));
        }
        end(from.trailers().await?.unwrap_or_default())
    }
}

fn end(trailers: HeaderMap) -> Result<Heard, BrokenOff> {
    match wire::code(&trailers) {
        Some(_) => Ok(Heard::End(trailers)),
        None => Err(BrokenOff::Malformed("ended its answer without a status")),
    }
}

fn whole_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, BrokenOff> {
    let Some(end) = wire::framed_length(buffer) else { return Ok(None) };
    if buffer[0] != 0 {
        return Err(BrokenOff::Malformed("sent a compressed answer, which nobody asked for"));
    }
    Ok((buffer.len() >= end).then(|| buffer.split_to(end).freeze()))
}

/// Resolves when the pod has been silent for too long. `first` is what it may take to begin.
async fn doubt(lease: &Lease, patience: Patience, first: Option<Duration>, begun: Instant) -> Status {
    match (patience, first) {
        (Patience::Listening, _) => pending().await,
        (Patience::Prompt, Some(first)) => {
            sleep_until(begun + first).await;
            unavailable(lease, &format!("did not answer within {} s", first.as_secs()))
        }
        (Patience::Prompt, None) | (Patience::Working(None), _) => no_life(lease).await,
        (Patience::Working(Some(most)), _) => tokio::select! {
            why = no_life(lease) => why,
            () = sleep_until(begun + most) => {
                unavailable(lease, &format!("did not come to an end within {} s", most.as_secs()))
            }
        },
    }
}

/// Resolves when the pod does not even say that it lives.
async fn no_life(lease: &Lease) -> Status {
    let question = own_question("http://localhost/grpc.health.v1.Health/Check", &HealthCheckRequest::default());
    loop {
        sleep(QUIET).await;
        // Any answer will do, also that there is no such call.
        let sign = async { question.ask(lease.requests().await?).await?.begin().await };
        match timeout(LIFE - QUIET, sign).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return forward::lost(lease, &error).await,
            Err(_) => return unavailable(lease, &format!("gave no sign of life for {} s", LIFE.as_secs())),
        }
    }
}

fn unavailable(lease: &Lease, what: &str) -> Status {
    let text = match lease.trouble() {
        Some(fate) => format!("{} (it {what})", fate.text),
        None => format!("pod {} {what}", lease.pod()),
    };
    Status::new(Code::Unavailable, text)
}

/// A call of the daemon's own.
pub(in crate::proxy) fn own_question(uri: &'static str, message: &impl prost::Message) -> Question {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(uri);
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    Question::new(request.into_parts().0, wire::message(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let one = wire::message(&HealthCheckRequest { service: "one".to_owned() });
        let two = wire::message(&HealthCheckRequest { service: "second".to_owned() });
        let all = [&one[..], &two[..]].concat();
        for cut in 0..=all.len() {
            let mut buffer = BytesMut::from(&all[..cut]);
            let mut messages = Vec::new();
            while let Some(message) = whole_message(&mut buffer).unwrap() {
                messages.push(message);
            }
            buffer.extend_from_slice(&all[cut..]);
            while let Some(message) = whole_message(&mut buffer).unwrap() {
                messages.push(message);
            }
            assert_eq!(messages, [one.clone(), two.clone()], "cut at {cut}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_compressed_message_is_none() {
        assert!(whole_message(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])).is_err());
    }

    #[test]
    fn an_end_without_a_status_is_no_end() {
        assert!(end(HeaderMap::new()).is_err());
        assert!(end(Status::new(Code::NotFound, "gone").trailers()).is_ok());
    }
}
