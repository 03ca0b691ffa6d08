//! Tests of the switch, and what they share: a switch whose peers say what the test wants.

mod calls;
mod peers;
mod windows;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::frame::Pseudo;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use prost::Message;

use super::call::Side;
use super::end::{End, Event, Head, Part};
use super::frames::{Data, data_head};
use super::outbox::Outbox;
use super::switch::Switch;

const POD: Side = Side::Pod(0);
const KIB: usize = 1 << 10;
const FILES: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const EXPORT: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// All that is to leave, out of its messages.
fn carried(outbox: &mut Outbox) -> Bytes {
    let mut all = BytesMut::new();
    while let Some(message) = outbox.next() {
        let message = std::mem::take(message);
        let content = crate::wire::carried(&message).expect("one gRPC message");
        all.extend_from_slice(&buildfleet_proto::buildkit::BytesMessage::decode(content).unwrap().data);
    }
    all.freeze()
}

fn asks(path: &'static str, end: bool) -> Head {
    let uri = format!("http://localhost{path}").parse().unwrap();
    Head { pseudo: Pseudo::request(Method::POST, uri, None), fields: HeaderMap::new(), end }
}

fn answers(end: bool) -> Head {
    Head { pseudo: Pseudo::response(StatusCode::OK), fields: HeaderMap::new(), end }
}

fn trailers(status: &'static str) -> Head {
    let fields = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
    Head { pseudo: Pseudo::default(), fields, end: true }
}

/// One setting and its value.
fn settings(id: u8, value: u32) -> Vec<u8> {
    let [a, b, c, d] = value.to_be_bytes();
    let mut frame = data_head(0, 6, false).to_vec();
    frame[3] = 4;
    frame.extend_from_slice(&[0, id, a, b, c, d]);
    frame
}

/// No further calls after that one.
fn away(last: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0]
}

const CALLS_AT_A_TIME: u8 = 3;
const INITIAL_WINDOW: u8 = 4;

/// What a peer has heard, in words.
fn word(event: Event) -> Option<String> {
    Some(match event {
        Event::Data(Data { stream, bytes, end, .. }) => {
            format!("{stream}: {} bytes{}", bytes.len(), if end { ", end" } else { "" })
        }
        Event::Head { stream, head } => {
            let path = head.pseudo.path.as_ref().map(|path| path.to_string());
            let status = head.fields.get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
            let what = path.or(status).unwrap_or_else(|| "answer".to_owned());
            format!("{stream}: {what}{}", if head.end { ", end" } else { "" })
        }
        Event::Reset { stream, reason } => format!("{stream}: reset {reason:?}"),
        Event::Room { stream, more } => format!("{stream}: room {more}"),
        Event::Malformed { stream, reason } => format!("{stream}: malformed {reason:?}"),
        Event::Away { .. } => "away".to_owned(),
        Event::Shift(_) => return None,
    })
}

/// A switch with one user's end and one pod, each spoken to by the test.
struct Table {
    switch: Switch,
    user: End,
    pod: End,
    delivered: Arc<AtomicBool>,
}

impl Table {
    fn new() -> Self {
        let delivered = Arc::default();
        let mut switch = Switch::new();
        switch.join(0, Arc::clone(&delivered));
        let mut table = Self { switch, user: End::greet(Part::Server), pod: End::greet(Part::Client), delivered };
        assert_eq!((table.at_user(), table.at_pod()), (vec![], vec![]));
        table
    }

    fn end(&mut self, side: Side) -> &mut End {
        if side == Side::User { &mut self.user } else { &mut self.pod }
    }

    /// Lets one end say what it has to say.
    fn say(&mut self, side: Side) -> Result<(), Reason> {
        let mut said = carried(&mut self.end(side).outbox);
        self.switch.hear(side, &mut said)
    }

    /// Lets both ends say what they have to say, and tells what one of them has heard since.
    fn heard(&mut self, side: Side) -> Vec<String> {
        self.say(Side::User).unwrap();
        self.say(POD).unwrap();
        let mut words = Vec::new();
        loop {
            self.switch.fill(side);
            let mut bytes = carried(self.switch.outbox(side).unwrap());
            if bytes.is_empty() {
                return words;
            }
            while let Some(event) = self.end(side).hear(&mut bytes).unwrap() {
                words.extend(word(event));
            }
        }
    }

    fn at_user(&mut self) -> Vec<String> {
        self.heard(Side::User)
    }

    fn at_pod(&mut self) -> Vec<String> {
        self.heard(POD)
    }

    fn raw(&mut self, side: Side, bytes: &[u8]) {
        self.end(side).outbox.put(bytes);
    }

    fn data(&mut self, side: Side, stream: u32, length: usize, end: bool) {
        for start in (0..length.max(1)).step_by(16 * KIB) {
            let now = (length - start).min(16 * KIB);
            let end = end && start + now == length;
            self.raw(side, &[&data_head(stream, now, end)[..], &vec![b'd'; now]].concat());
        }
    }

    /// A call that has been asked whole and answered in part.
    fn answering(path: &'static str) -> Self {
        let mut table = Self::new();
        table.pod.say_head(1, asks(path, true));
        assert_eq!(table.at_user(), [format!("1: {path}, end")]);
        table.user.say_head(1, answers(false));
        assert_eq!(table.at_pod(), ["1: answer"]);
        table
    }
}

fn bytes(words: &[String]) -> usize {
    let data = words.iter().filter(|word| word.contains(" bytes"));
    data.map(|word| word.split(' ').nth(1).unwrap().parse::<usize>().unwrap()).sum()
}
