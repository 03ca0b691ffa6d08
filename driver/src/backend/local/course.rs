//! Whether a local pod is to stay, and who still speaks to it: one that is told to go waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio_util::io::InspectReader;

use super::supervisor::Event;
use crate::backend::ByteStream;

/// What a pod is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heading {
    Stay,
    /// To go, once nobody speaks to it any more, and at that time in any case.
    Leave(Instant),
    /// There is no way back.
    Go,
}

/// Shared by those who give orders, those who speak to the pod, and the thread that runs it.
#[derive(Debug)]
pub(super) struct Course {
    state: Mutex<State>,
    events: mpsc::Sender<Event>,
}

#[derive(Debug)]
struct State {
    heading: Heading,
    users: usize,
}

impl Course {
    /// `events` is told of each change.
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { state: Mutex::new(State { heading: Heading::Stay, users: 0 }), events }
    }

    /// Tells the pod to go when its users have gone, `patience` from now at the latest.
    pub(super) fn leave(&self, patience: Duration) {
        let mut state = self.state();
        if state.heading == Heading::Stay {
            state.heading = if state.users == 0 { Heading::Go } else { Heading::Leave(Instant::now() + patience) };
            self.tell();
        }
    }

    /// Takes that back. False when the pod is going already and needs a successor.
    pub(super) fn stay(&self) -> bool {
        let mut state = self.state();
        if let Heading::Leave(_) = state.heading {
            state.heading = Heading::Stay;
            self.tell();
        }
        state.heading == Heading::Stay
    }

    /// Tells the pod to go now.
    pub(super) fn go(&self) {
        self.state().heading = Heading::Go;
        self.tell();
    }

    /// What the pod has to do now: nobody is left to wait for, or they were waited for long enough.
    pub(super) fn now(&self) -> Heading {
        let mut state = self.state();
        if let Heading::Leave(until) = state.heading
            && (state.users == 0 || until <= Instant::now())
        {
            state.heading = Heading::Go;
        }
        state.heading
    }

    /// Counts whoever speaks on this stream, for as long as it is there.
    pub(super) fn used_by(self: &Arc<Self>, stream: UnixStream) -> impl ByteStream + use<> {
        self.state().users += 1;
        let user = User(Arc::clone(self));
        InspectReader::new(stream, move |_: &[u8]| {
            let _kept_with_the_stream = &user;
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        // A thread that has ended needs no news.
        let _ = self.events.send(Event::Course);
    }
}

/// Somebody for whom the pod waits.
struct User(Arc<Course>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.state().users -= 1;
        self.0.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_pod_that_is_to_go_waits_for_its_users_and_may_be_called_back() {
        let (events, inbox) = mpsc::channel();
        let course = Arc::new(Course::new(events));
        let user = course.used_by(UnixStream::pair().unwrap().0);
        assert!(course.now() == Heading::Stay && course.stay());
        course.leave(LONG);
        assert!(matches!(course.now(), Heading::Leave(_)));
        assert!(course.stay());
        assert_eq!(course.now(), Heading::Stay);
        course.leave(LONG);
        assert_eq!(inbox.try_iter().count(), 3);
        drop(user);
        assert_eq!(inbox.try_iter().count(), 1);
        assert_eq!(course.now(), Heading::Go);
        assert!(!course.stay());
    }

    #[tokio::test]
    async fn nobody_is_waited_for_longer_than_was_said() {
        let (events, _inbox) = mpsc::channel();
        let course = Arc::new(Course::new(events));
        let _user = course.used_by(UnixStream::pair().unwrap().0);
        course.leave(Duration::ZERO);
        assert_eq!(course.now(), Heading::Go);
    }
}
