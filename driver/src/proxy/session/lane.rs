//! One direction of a call: what has come and waits for room, in its order.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use h2::Reason;

use super::end::{Head, LARGEST};
use super::frames::Data;
use super::outbox::Outbox;
use crate::wire::STREAM_WINDOW;

/// Pieces of less than this are copied: each of them would keep all that came together with it.
const SMALL: usize = 2 << 10;

/// Answers that only say that there will be one: nobody needs more of them.
const INFORMATIONAL: u8 = 8;

#[derive(Debug)]
enum Item {
    Head(Box<Head>),
    Data(Bytes),
    Small(BytesMut),
}

impl Item {
    /// Bytes of data; none for a head.
    fn data(&self) -> Option<usize> {
        match self {
            Self::Head(_) => None,
            Self::Data(bytes) => Some(bytes.len()),
            Self::Small(bytes) => Some(bytes.len()),
        }
    }
}

/// What can leave next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Head,
    /// So many bytes at most, and whether they are the last.
    Data {
        length: usize,
        end: bool,
    },
    /// Nothing for now.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Lane {
    waiting: VecDeque<Item>,
    /// Bytes of data in `waiting`.
    bytes: usize,
    /// What the receiver takes.
    room: i64,
    /// What the sender may still send, and what has left since it was told.
    credit: i64,
    owed: u32,
    /// What was said before the head that counts, and whether that was.
    informational: u8,
    headed: bool,
    /// The sender has said its last.
    ended: bool,
    /// The receiver has got it.
    finished: bool,
    /// Whoever fills the receiver's outbox knows of it.
    pub(super) listed: bool,
}

impl Lane {
    /// `room`: what the receiver takes on a new stream.
    pub(super) fn new(room: i64) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            room,
            credit: STREAM_WINDOW.into(),
            owed: 0,
            informational: 0,
            headed: false,
            ended: false,
            finished: false,
            listed: false,
        }
    }

    pub(super) fn hear_head(&mut self, head: Box<Head>) -> Result<(), Reason> {
        if self.ended {
            return Err(Reason::STREAM_CLOSED);
        }
        if self.headed && !head.end {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.pseudo.status.is_some_and(|status| status.is_informational()) {
            self.informational += 1;
            if self.informational > INFORMATIONAL {
                return Err(Reason::ENHANCE_YOUR_CALM);
            }
        } else {
            self.headed = true;
        }
        self.ended = head.end;
        self.waiting.push_back(Item::Head(head));
        Ok(())
    }

    pub(super) fn hear_data(&mut self, data: Data) -> Result<(), Reason> {
        if self.ended {
            return Err(Reason::STREAM_CLOSED);
        }
        self.credit -= data.counted() as i64;
        if self.credit < 0 {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        // Nobody has to wait for it.
        self.owed += data.padding as u32;
        self.ended = data.end;
        self.bytes += data.bytes.len();
        match self.waiting.back_mut() {
            _ if data.bytes.is_empty() => {}
            _ if data.bytes.len() >= SMALL => self.waiting.push_back(Item::Data(data.bytes)),
            Some(Item::Small(bytes)) if bytes.len() < SMALL => bytes.extend_from_slice(&data.bytes),
            _ => self.waiting.push_back(Item::Small(data.bytes[..].into())),
        }
        Ok(())
    }

    /// More room, or less when the receiver has other settings.
    pub(super) fn shift(&mut self, by: i64) -> Result<(), Reason> {
        self.room += by;
        if self.room > LARGEST { Err(Reason::FLOW_CONTROL_ERROR) } else { Ok(()) }
    }

    /// What can leave next in a frame of at most `most` bytes.
    pub(super) fn next(&self, most: usize) -> Next {
        let mut length = 0;
        let most = most.min(usize::try_from(self.room).unwrap_or(0));
        for item in &self.waiting {
            match item.data() {
                None if length == 0 => return Next::Head,
                None => return Next::Data { length, end: false },
                Some(_) if most == 0 => return Next::Nothing,
                Some(bytes) if length + bytes > most => return Next::Data { length: most, end: false },
                Some(bytes) => length += bytes,
            }
        }
        match self.ended && !self.finished {
            true => Next::Data { length, end: true },
            false if length == 0 => Next::Nothing,
            false => Next::Data { length, end: false },
        }
    }

    pub(super) fn take_head(&mut self) -> Option<Box<Head>> {
        match self.waiting.pop_front()? {
            Item::Head(head) => {
                self.finished = head.end;
                Some(head)
            }
            data => {
                self.waiting.push_front(data);
                None
            }
        }
    }

    /// Puts so many bytes; with the `end`, nothing follows.
    pub(super) fn take_data(&mut self, length: usize, end: bool, outbox: &mut Outbox) {
        let mut left = length;
        while left > 0 {
            let taken = match self.waiting.front_mut() {
                Some(Item::Data(bytes)) => bytes.split_to(bytes.len().min(left)),
                Some(Item::Small(bytes)) => bytes.split_to(bytes.len().min(left)).freeze(),
                Some(Item::Head(_)) | None => break,
            };
            if self.waiting.front().and_then(Item::data) == Some(0) {
                self.waiting.pop_front();
            }
            outbox.put(&taken);
            left -= taken.len();
        }
        self.bytes -= length;
        self.room -= length as i64;
        self.owed += length as u32;
        self.finished = end;
    }

    /// By how much the sender's window is to be opened, if by much.
    pub(super) fn opens(&mut self) -> Option<u32> {
        let open = !self.ended && self.owed >= STREAM_WINDOW / 2;
        open.then(|| {
            self.credit += i64::from(self.owed);
            std::mem::take(&mut self.owed)
        })
    }

    /// Whether it is not the stream that has no room.
    pub(super) fn is_starved(&self) -> bool {
        !self.waiting.is_empty() && self.room > 0
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }
}
