//! The calls of all pods that have a session, and the user's end that answers them: frame by frame, without I/O.
//!
//! What comes on one end waits in the call's lane until the other end takes it, and only then may its sender send as much again:
//! a slow reader holds up its own calls, and nothing is kept beyond the windows.

mod leaving;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use h2::Reason;

use super::call::{Call, PodId, Side};
use super::end::{End, Event, Head, Part};
use super::frames::Data;
use super::outbox::Outbox;
use crate::wire::STREAMS;

type CallId = u64;

/// One end, and the calls that may have something for it.
#[derive(Debug)]
struct Peer {
    end: End,
    ready: VecDeque<CallId>,
    /// Takes no further calls.
    closed: bool,
}

impl Peer {
    fn greet(part: Part) -> Self {
        Self { end: End::greet(part), ready: VecDeque::new(), closed: false }
    }
}

#[derive(Debug)]
struct Pod {
    peer: Peer,
    calls: HashMap<u32, CallId>,
    /// Whether anything that leaves something there has gone to the user.
    delivered: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(super) struct Switch {
    user: Peer,
    pods: BTreeMap<PodId, Pod>,
    calls: HashMap<CallId, Call>,
    /// Those that have begun at the user's end, and those that wait until it takes another one.
    at_user: HashMap<u32, CallId>,
    queued: VecDeque<CallId>,
    next_stream: u32,
    next_call: CallId,
}

impl Switch {
    pub(super) fn new() -> Self {
        let (pods, calls, at_user, queued) = Default::default();
        Self { user: Peer::greet(Part::Client), pods, calls, at_user, queued, next_stream: 1, next_call: 0 }
    }

    pub(super) fn join(&mut self, pod: PodId, delivered: Arc<AtomicBool>) {
        self.pods.insert(pod, Pod { peer: Peer::greet(Part::Server), calls: HashMap::new(), delivered });
    }

    /// Tells a pod to begin nothing more; its calls go on.
    pub(super) fn leave(&mut self, pod: PodId) {
        let Some(Pod { peer, .. }) = self.pods.get_mut(&pod) else { return };
        if !std::mem::replace(&mut peer.closed, true) {
            peer.end.go_away(Reason::NO_ERROR);
        }
    }

    /// Whether a pod was told to begin nothing more, and all its calls have ended.
    pub(super) fn is_done(&self, pod: PodId) -> bool {
        self.pods.get(&pod).is_none_or(|pod| pod.peer.closed && pod.calls.is_empty())
    }

    /// One end says nothing more and takes nothing more.
    pub(super) fn lose(&mut self, side: Side) {
        match side {
            Side::User => {
                self.user.closed = true;
                for id in self.ids(|_| true) {
                    self.forsake(id, side, Reason::CANCEL);
                }
                for pod in self.pods.keys().copied().collect::<Vec<_>>() {
                    self.leave(pod);
                }
            }
            Side::Pod(pod) => {
                for id in self.ids(|call| call.pod == pod) {
                    self.cut(id, side, Reason::CANCEL);
                }
                self.pods.remove(&pod);
            }
        }
    }

    /// Takes what one end says. An error ends that connection, and the peer is to be told before it closes.
    pub(super) fn hear(&mut self, side: Side, input: &mut Bytes) -> Result<(), Reason> {
        loop {
            let Some(peer) = self.peer(side) else { return Ok(()) };
            let heard = match peer.end.hear(input) {
                Ok(None) => return Ok(()),
                Ok(Some(event)) => self.take(side, event),
                Err(reason) => Err(reason),
            };
            if let (Err(reason), Some(peer)) = (heard, self.peer(side)) {
                peer.end.go_away(reason);
                return Err(reason);
            }
        }
    }

    pub(super) fn outbox(&mut self, side: Side) -> Option<&mut Outbox> {
        Some(&mut self.peer(side)?.end.outbox)
    }

    fn peer(&mut self, side: Side) -> Option<&mut Peer> {
        match side {
            Side::User => Some(&mut self.user),
            Side::Pod(pod) => self.pods.get_mut(&pod).map(|pod| &mut pod.peer),
        }
    }

    fn ids(&self, which: impl Fn(&Call) -> bool) -> Vec<CallId> {
        self.calls.iter().filter(|(_, call)| which(call)).map(|(id, _)| *id).collect()
    }

    // ---- what is heard

    fn take(&mut self, side: Side, event: Event) -> Result<(), Reason> {
        match event {
            Event::Data(data) => self.take_data(side, data),
            Event::Head { stream, head } => self.take_head(side, stream, head),
            Event::Reset { stream, reason } => {
                if let Some(id) = self.find(side, stream)? {
                    self.forsake(id, side, reason);
                }
                Ok(())
            }
            Event::Room { stream, more } => {
                if let Some(id) = self.find(side, stream)? {
                    self.shift(id, side, more.into());
                }
                Ok(())
            }
            Event::Shift(by) => {
                for id in self.ids(|call| side == Side::User || side == Side::Pod(call.pod)) {
                    self.shift(id, side, by);
                }
                if side == Side::User {
                    self.user.ready.append(&mut self.queued);
                }
                Ok(())
            }
            Event::Malformed { stream, reason } => {
                match self.known(side, stream) {
                    Some(id) => self.fail(id, reason),
                    None => {
                        if let Some(peer) = self.peer(side) {
                            if matches!(side, Side::Pod(_)) {
                                peer.end.begins(stream)?;
                            }
                            peer.end.reset(stream, reason);
                        }
                    }
                }
                Ok(())
            }
            Event::Away { last } => {
                if side == Side::User {
                    self.user.closed = true;
                    for id in self.ids(|call| call.at_user.is_none_or(|stream| stream > last)) {
                        self.fail(id, Reason::REFUSED_STREAM);
                    }
                }
                Ok(())
            }
        }
    }

    fn take_data(&mut self, side: Side, data: Data) -> Result<(), Reason> {
        let (stream, counted, padding) = (data.stream, data.counted(), data.padding);
        let id = self.find(side, stream)?;
        let call = id.and_then(|id| Some((id, self.calls.get_mut(&id)?)));
        let Some((id, call)) = call.filter(|(_, call)| call.forsaken.is_none()) else {
            self.relieve(side, counted);
            return Ok(());
        };
        let (delivers, lane) = (call.delivers, call.from(side));
        if let Err(reason) = lane.hear_data(data) {
            self.relieve(side, counted);
            self.fail(id, reason);
            return Ok(());
        }
        // Padding waits for nobody.
        let opens = lane.opens();
        self.relieve(side, padding);
        if let (Some(more), Some(peer)) = (opens, self.peer(side)) {
            peer.end.open(stream, more);
        }
        if let (Side::Pod(pod), true) = (side, delivers)
            && let Some(pod) = self.pods.get(&pod)
        {
            pod.delivered.store(true, Ordering::Release);
        }
        self.list(id, side);
        Ok(())
    }

    fn take_head(&mut self, side: Side, stream: u32, head: Box<Head>) -> Result<(), Reason> {
        let id = match (self.known(side, stream), side) {
            (None, Side::Pod(pod)) => self.begin(pod, stream, &head)?,
            (None, Side::User) => self.find(side, stream)?,
            (id, _) => id,
        };
        let Some(id) = id else { return Ok(()) };
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.forsaken.is_none()) else { return Ok(()) };
        match call.from(side).hear_head(head) {
            Ok(()) => self.list(id, side),
            Err(reason) => self.fail(id, reason),
        }
        Ok(())
    }

    /// A call of a pod, unless it is over already or cannot be.
    fn begin(&mut self, pod: PodId, stream: u32, head: &Head) -> Result<Option<CallId>, Reason> {
        let Some(of) = self.pods.get_mut(&pod) else { return Ok(None) };
        if !of.peer.end.begins(stream)? {
            return Ok(None);
        }
        if of.peer.closed || self.user.closed || of.calls.len() >= STREAMS as usize {
            of.peer.end.reset(stream, Reason::REFUSED_STREAM);
            return Ok(None);
        }
        let id = self.next_call;
        self.next_call += 1;
        of.calls.insert(stream, id);
        let call = Call::begin(pod, stream, head, of.peer.end.initial(), self.user.end.initial());
        self.calls.insert(id, call);
        Ok(Some(id))
    }

    fn known(&self, side: Side, stream: u32) -> Option<CallId> {
        match side {
            Side::User => self.at_user.get(&stream).copied(),
            Side::Pod(pod) => self.pods.get(&pod)?.calls.get(&stream).copied(),
        }
    }

    /// None when the call is over; an error when there was none.
    fn find(&self, side: Side, stream: u32) -> Result<Option<CallId>, Reason> {
        let id = self.known(side, stream);
        let was = match side {
            Side::User => stream % 2 == 1 && stream < self.next_stream,
            Side::Pod(pod) => self.pods.get(&pod).is_some_and(|pod| stream % 2 == 1 && stream <= pod.peer.end.last()),
        };
        if id.is_some() || was { Ok(id) } else { Err(Reason::PROTOCOL_ERROR) }
    }

    fn shift(&mut self, id: CallId, side: Side, by: i64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let other = call.other(side);
        match call.to(side).shift(by) {
            Ok(()) => self.list(id, other),
            Err(reason) => self.fail(id, reason),
        }
    }

    /// What came from that side may have something to leave.
    fn list(&mut self, id: CallId, from: Side) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (to, lane) = (call.other(from), call.from(from));
        if !std::mem::replace(&mut lane.listed, true)
            && let Some(peer) = self.peer(to)
        {
            peer.ready.push_back(id);
        }
    }

    fn relieve(&mut self, side: Side, bytes: usize) {
        if bytes > 0
            && let Some(peer) = self.peer(side)
        {
            peer.end.relieve(bytes);
        }
    }

    // ---- how calls end

    /// One end wants nothing more. The other hears it at once, but not before the rest of an answer that is whole: the user's
    /// end ends a call that it has answered early by such words, and repeats them for all that was on its way
    /// (`golang.org/x/net/http2`, `processData`).
    fn forsake(&mut self, id: CallId, side: Side, reason: Reason) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if side == Side::User && call.to_pod.has_ended() && !call.to_pod.is_finished() {
            call.forsaken.get_or_insert(reason);
        } else {
            self.cut(id, side, reason);
        }
    }

    /// Ends a call that one end knows to be over.
    fn cut(&mut self, id: CallId, side: Side, reason: Reason) {
        let Some(call) = self.close(id) else { return };
        let other = call.other(side);
        if let (Some(stream), Some(peer)) = (call.at(other), self.peer(other)) {
            peer.end.reset(stream, reason);
        }
    }

    /// Ends a call on both ends.
    fn fail(&mut self, id: CallId, reason: Reason) {
        let Some(call) = self.calls.get(&id) else { return };
        let (pod, at_pod) = (call.pod, call.at_pod);
        self.cut(id, Side::Pod(pod), reason);
        if let Some(pod) = self.pods.get_mut(&pod) {
            pod.peer.end.reset(at_pod, reason);
        }
    }

    fn close(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        let pod = Side::Pod(call.pod);
        self.relieve(Side::User, call.to_pod.waiting());
        self.relieve(pod, call.to_user.waiting());
        if let Some(pod) = self.pods.get_mut(&call.pod) {
            pod.calls.remove(&call.at_pod);
        }
        if let Some(stream) = call.at_user {
            self.at_user.remove(&stream);
        }
        // Also when this call had no place: it may have been the one that was to get the last that became free.
        while self.user.end.takes_calls(self.at_user.len())
            && let Some(next) = self.queued.pop_front()
        {
            if self.calls.contains_key(&next) {
                self.user.ready.push_back(next);
                break;
            }
        }
        prune(&mut self.user.ready, &self.calls);
        prune(&mut self.queued, &self.calls);
        if let Some(pod) = self.pods.get_mut(&call.pod) {
            prune(&mut pod.peer.ready, &self.calls);
        }
        Some(call)
    }
}

/// Forgets calls that are over, once there are many: an end that takes nothing would have them kept.
fn prune(ids: &mut VecDeque<CallId>, calls: &HashMap<CallId, Call>) {
    if ids.len() > 2 * calls.len() + 64 {
        ids.retain(|id| calls.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_over_are_forgotten_though_an_end_takes_nothing() {
        let mut switch = Switch::new();
        switch.join(0, Arc::default());
        // A client's greeting without any settings.
        let mut greeting = Bytes::from_static(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        switch.hear(Side::Pod(0), &mut greeting).unwrap();
        for stream in (1..20_000_u32).step_by(2) {
            let [a, b, c, d] = stream.to_be_bytes();
            // `:method: POST`, `:scheme: http`, `:path: /`, and the end of it.
            let call = [0, 0, 3, 1, 4, a, b, c, d, 0x83, 0x86, 0x84, 0, 0, 4, 3, 0, a, b, c, d, 0, 0, 0, 8];
            switch.hear(Side::Pod(0), &mut Bytes::copy_from_slice(&call)).unwrap();
        }
        assert!(switch.calls.is_empty());
        assert!(switch.user.ready.len() < 100, "{} calls", switch.user.ready.len());
    }
}
