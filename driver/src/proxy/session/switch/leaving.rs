//! What leaves to one end: heads and data of all its calls, in turn, as far as there is room.

use super::super::call::Side;
use super::super::lane::Next;
use super::{CallId, Switch};

/// What became of a call's turn.
enum Step {
    Moved,
    /// Only the connection has no room.
    Waits,
    /// Nothing more to move for now.
    Over,
}

impl Switch {
    /// Moves what one end has room for into its outbox, the calls in turn.
    pub(in super::super) fn fill(&mut self, side: Side) {
        let mut idle = 0;
        while let Some(peer) = self.peer(side) {
            if idle >= peer.ready.len() || peer.end.outbox.room() == 0 {
                break;
            }
            let Some(id) = peer.ready.pop_front() else { break };
            match self.step(side, id) {
                Step::Moved => idle = 0,
                Step::Waits => idle += 1,
                Step::Over => continue,
            }
            if let Some(peer) = self.peer(side) {
                peer.ready.push_back(id);
            }
        }
    }

    /// Moves the next head or frame of one call.
    fn step(&mut self, side: Side, id: CallId) -> Step {
        let Some(call) = self.calls.get_mut(&id) else { return Step::Over };
        let (peer, source) = match side {
            Side::User => (&mut self.user, self.pods.get_mut(&call.pod).map(|pod| &mut pod.peer)),
            Side::Pod(pod) => match self.pods.get_mut(&pod) {
                Some(pod) => (&mut pod.peer, Some(&mut self.user)),
                None => return Step::Over,
            },
        };
        if side == Side::User && call.forsaken.is_some() {
            return Step::Over;
        }
        if side == Side::User && call.at_user.is_none() {
            if !peer.end.takes_calls(self.at_user.len()) {
                self.queued.push_back(id);
                return Step::Over;
            }
            // They run out after a billion calls: far beyond what one session has.
            call.at_user = Some(self.next_stream);
            self.at_user.insert(self.next_stream, id);
            self.next_stream += 2;
        }
        let (Some(at), other) = (call.at(side), call.other(side)) else { return Step::Over };
        let at_source = call.at(other);
        let lane = call.to(side);
        match lane.next(peer.end.frame_room()) {
            Next::Nothing if lane.is_starved() => return Step::Waits,
            Next::Nothing => {
                lane.listed = false;
                return Step::Over;
            }
            Next::Head => {
                let Some(head) = lane.take_head() else { return Step::Over };
                peer.end.say_head(at, *head);
            }
            Next::Data { length, end } => {
                peer.end.say_data(at, length, end, |outbox| lane.take_data(length, end, outbox));
                if let Some(source) = source {
                    source.end.relieve(length);
                    if let (Some(stream), Some(more)) = (at_source, lane.opens()) {
                        source.end.open(stream, more);
                    }
                }
            }
        }
        if !lane.is_finished() {
            return Step::Moved;
        }
        let both = call.to_pod.is_finished() && call.to_user.is_finished();
        match call.forsaken {
            Some(reason) if !call.to_user.has_ended() => self.cut(id, other, reason),
            Some(_) => drop(self.close(id)),
            None if both => drop(self.close(id)),
            None => {}
        }
        Step::Over
    }
}
