//! One end of a session: what HTTP/2 keeps of a connection, and what it says for itself. No I/O.
//!
//! Heads of calls, settings and all else that is small go through the codec of `h2`; data does not.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use h2::frame::{Frame, GoAway, Headers, Ping, Pseudo, Reset, Settings, StreamId, WindowUpdate};
use h2::proto::Error;
use h2::{Codec, Reason};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{self, Cutter, Data, Piece};
use super::outbox::Outbox;
use crate::wire::{CONNECTION_WINDOW, FRAME, HEADER_LIST, STREAM_WINDOW, STREAMS};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection begins with, before any settings (RFC 9113, 6.5.2 and 6.9.2).
const FIRST_WINDOW: u32 = 65_535;
const FIRST_FRAME: u32 = 16_384;

/// The largest window there is.
pub(super) const LARGEST: i64 = (1 << 31) - 1;

/// The calls that a server is trusted to take before its settings have come; as `h2` does.
const FIRST_CALLS: usize = 100;

/// The part that we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Client,
    Server,
}

/// What a peer says that concerns calls.
#[derive(Debug)]
pub(super) enum Event {
    Data(Data),
    Head {
        stream: u32,
        head: Box<Head>,
    },
    Reset {
        stream: u32,
        reason: Reason,
    },
    /// More room on one stream.
    Room {
        stream: u32,
        more: u32,
    },
    /// Other room on all streams.
    Shift(i64),
    /// Something is wrong with one call alone.
    Malformed {
        stream: u32,
        reason: Reason,
    },
    /// No further calls, and none of those after the last that it has taken.
    Away {
        last: u32,
    },
}

/// A call's headers or trailers.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) pseudo: Pseudo,
    pub(super) fields: HeaderMap,
    pub(super) end: bool,
}

pub(super) struct End {
    part: Part,
    cutter: Cutter,
    codec: Codec<Memory, Bytes>,
    pub(super) outbox: Outbox,
    /// Bytes of the client's preface that have come.
    greeted: usize,
    /// What the peer takes, on the connection and on each new stream.
    room: i64,
    initial: u32,
    largest: u32,
    /// The calls that it takes at a time.
    calls: usize,
    /// Its settings have come.
    settled: bool,
    /// What it may still send, and what has left since it was told.
    credit: i64,
    owed: u32,
    /// The last call that it began.
    last: u32,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("part", &self.part).field("room", &self.room).finish_non_exhaustive()
    }
}

impl End {
    /// With a greeting that is to leave.
    pub(super) fn greet(part: Part) -> Self {
        let mut codec = Codec::with_max_recv_frame_size(Memory::default(), FRAME as usize);
        codec.set_max_recv_header_list_size(HEADER_LIST as usize);
        let mut end = Self {
            part,
            cutter: Cutter::new(FRAME),
            codec,
            outbox: Outbox::default(),
            greeted: if part == Part::Server { 0 } else { PREFACE.len() },
            room: FIRST_WINDOW.into(),
            initial: FIRST_WINDOW,
            largest: FIRST_FRAME,
            calls: FIRST_CALLS,
            settled: false,
            credit: CONNECTION_WINDOW.into(),
            owed: 0,
            last: 0,
        };
        let mut settings = Settings::default();
        settings.set_initial_window_size(Some(STREAM_WINDOW));
        settings.set_max_frame_size(Some(FRAME));
        settings.set_max_header_list_size(Some(HEADER_LIST));
        match part {
            Part::Client => {
                end.outbox.put(PREFACE);
                settings.set_enable_push(false);
            }
            Part::Server => settings.set_max_concurrent_streams(Some(STREAMS)),
        }
        end.say(settings);
        end.say(WindowUpdate::new(StreamId::ZERO, CONNECTION_WINDOW - FIRST_WINDOW));
        end
    }

    /// What the peer says next; nothing when `input` is used up. An error ends the connection.
    pub(super) fn hear(&mut self, input: &mut Bytes) -> Result<Option<Event>, Reason> {
        let preface = &PREFACE[self.greeted..];
        let take = preface.len().min(input.len());
        if input.split_to(take) != preface[..take] {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.greeted += take;
        while let Some(piece) = self.cutter.next(input)? {
            let event = match piece {
                Piece::Data(data) => {
                    self.credit -= data.counted() as i64;
                    if self.credit < 0 {
                        return Err(Reason::FLOW_CONTROL_ERROR);
                    }
                    Some(Event::Data(data))
                }
                Piece::Other(bytes) => self.decode(bytes)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn decode(&mut self, bytes: BytesMut) -> Result<Option<Event>, Reason> {
        self.codec.get_mut().input = bytes;
        let frame = match Pin::new(&mut self.codec).poll_next(&mut Context::from_waker(Waker::noop())) {
            // A kind that nobody knows, or a block of headers that goes on.
            Poll::Pending | Poll::Ready(None) => return Ok(None),
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(Error::Reset(stream, reason, _)))) => {
                return Ok(Some(Event::Malformed { stream: stream.into(), reason }));
            }
            Poll::Ready(Some(Err(Error::GoAway(_, reason, _)))) => return Err(reason),
            Poll::Ready(Some(Err(Error::Io(..)))) => return Err(Reason::PROTOCOL_ERROR),
        };
        match frame {
            Frame::Headers(headers) => Ok(Some(head(headers))),
            Frame::Reset(reset) => Ok(Some(Event::Reset { stream: reset.stream_id().into(), reason: reset.reason() })),
            Frame::WindowUpdate(update) => self.widen(&update),
            Frame::Settings(settings) if !settings.is_ack() => self.settle(&settings).map(Some),
            Frame::Ping(ping) if !ping.is_ack() => {
                self.say(Ping::pong(ping.into_payload()));
                Ok(None)
            }
            Frame::GoAway(away) => Ok(Some(Event::Away { last: away.last_stream_id().into() })),
            // Nobody asked for it, and data never comes here.
            Frame::PushPromise(_) | Frame::Data(_) => Err(Reason::PROTOCOL_ERROR),
            Frame::Settings(_) | Frame::Ping(_) | Frame::Priority(_) => Ok(None),
        }
    }

    fn widen(&mut self, update: &WindowUpdate) -> Result<Option<Event>, Reason> {
        let (stream, more) = (u32::from(update.stream_id()), update.size_increment());
        match (stream, more) {
            (0, 0) => Err(Reason::PROTOCOL_ERROR),
            (_, 0) => Ok(Some(Event::Malformed { stream, reason: Reason::PROTOCOL_ERROR })),
            (0, _) => {
                self.room += i64::from(more);
                if self.room > LARGEST { Err(Reason::FLOW_CONTROL_ERROR) } else { Ok(None) }
            }
            _ => Ok(Some(Event::Room { stream, more })),
        }
    }

    fn settle(&mut self, settings: &Settings) -> Result<Event, Reason> {
        let initial = settings.initial_window_size().unwrap_or(self.initial);
        let shift = i64::from(initial) - i64::from(self.initial);
        self.initial = initial;
        if let Some(largest) = settings.max_frame_size() {
            self.largest = largest;
            self.codec.set_max_send_frame_size(largest as usize);
        }
        if let Some(size) = settings.header_table_size() {
            self.codec.set_send_header_table_size(size as usize);
        }
        match settings.max_concurrent_streams() {
            Some(calls) => self.calls = calls as usize,
            // What was not limited by the first settings is not limited.
            None if !self.settled => self.calls = usize::MAX,
            None => {}
        }
        self.settled = true;
        self.say(Settings::ack());
        Ok(Event::Shift(shift))
    }

    // ---- what is said

    fn say(&mut self, frame: impl Into<Frame<Bytes>>) {
        let mut context = Context::from_waker(Waker::noop());
        // Memory is always ready, and a frame that is no data is never too large.
        let _ = self.codec.buffer(frame.into());
        let _ = self.codec.flush(&mut context);
        self.outbox.put(&self.codec.get_ref().output);
        self.codec.get_mut().output.clear();
    }

    pub(super) fn say_head(&mut self, stream: u32, head: Head) {
        let mut headers = Headers::new(stream.into(), head.pseudo, head.fields);
        if head.end {
            headers.set_end_stream();
        }
        self.say(headers);
    }

    /// `take` gives the data, of `length` bytes in all, for which there has to be room.
    pub(super) fn say_data(&mut self, stream: u32, length: usize, end: bool, take: impl FnOnce(&mut Outbox)) {
        self.outbox.put(&frames::data_head(stream, length, end));
        take(&mut self.outbox);
        self.room -= length as i64;
    }

    pub(super) fn reset(&mut self, stream: u32, reason: Reason) {
        self.say(Reset::new(stream.into(), reason));
    }

    /// What came from this peer on a stream has left: it may send as much again.
    pub(super) fn open(&mut self, stream: u32, more: u32) {
        self.say(WindowUpdate::new(stream.into(), more));
    }

    /// What came from this peer has left, or is dropped.
    pub(super) fn relieve(&mut self, bytes: usize) {
        // Never more than the window. What waits for others is no part of what can be given back, and must not keep it.
        self.owed += bytes as u32;
        if 2 * i64::from(self.owed) >= self.credit {
            let more = std::mem::take(&mut self.owed);
            self.credit += i64::from(more);
            self.say(WindowUpdate::new(StreamId::ZERO, more));
        }
    }

    pub(super) fn go_away(&mut self, reason: Reason) {
        self.say(GoAway::new(self.last.into(), reason));
    }

    // ---- what there is room for

    /// How much data may leave in one frame.
    pub(super) fn frame_room(&self) -> usize {
        let outbox = self.outbox.room().saturating_sub(frames::HEAD);
        outbox.min(self.largest as usize).min(usize::try_from(self.room).unwrap_or(0))
    }

    /// The room that a new stream begins with.
    pub(super) fn initial(&self) -> i64 {
        self.initial.into()
    }

    pub(super) fn takes_calls(&self, open: usize) -> bool {
        open < self.calls
    }

    /// Whether the peer begins a call with this stream; an error when it can't.
    pub(super) fn begins(&mut self, stream: u32) -> Result<bool, Reason> {
        let begins = stream > self.last;
        if begins {
            let client = self.part == Part::Server && stream % 2 == 1;
            if !client {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.last = stream;
        }
        Ok(begins)
    }

    pub(super) fn last(&self) -> u32 {
        self.last
    }
}

fn head(headers: Headers) -> Event {
    let stream = headers.stream_id().into();
    if headers.is_over_size() {
        return Event::Malformed { stream, reason: Reason::PROTOCOL_ERROR };
    }
    let end = headers.is_end_stream();
    let (pseudo, fields) = headers.into_parts();
    Event::Head { stream, head: Box::new(Head { pseudo, fields, end }) }
}

/// What the codec reads and writes: it never waits.
#[derive(Debug, Default)]
struct Memory {
    input: BytesMut,
    output: BytesMut,
}

impl AsyncRead for Memory {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let input = &mut self.get_mut().input;
        if input.is_empty() {
            return Poll::Pending;
        }
        let take = input.len().min(out.remaining());
        out.put_slice(&input[..take]);
        input.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
