//! Whose build is placed when: the builds of one connection one after the other, those that begin together by what they are.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, watch};

use crate::placement::StickyKey;

/// For how long a build waits for others of its connection that have begun and not said yet what they build. The targets of
/// a bake say it within some 20 ms of each other.
const TOGETHER: Duration = Duration::from_millis(100);

/// A build that wants its turn. Its part first: refs are other ones in every run, and so is the order in which targets come.
type Waiting = (StickyKey, String);

/// The turns of one connection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: watch::Sender<BTreeSet<Waiting>>,
    turn: Mutex<()>,
}

/// Nobody else's build is placed until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    _place: Place<'a>,
}

/// A place among those who wait; given up when it is dropped, whatever came of it.
#[derive(Debug)]
struct Place<'a> {
    turns: &'a Turns,
    waiting: Waiting,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.waiting.send_modify(|all| {
            all.remove(&self.waiting);
        });
    }
}

impl Turns {
    /// The turn of a build. `begun` counts the builds of the connection that have no pod yet, this one among them: as long as
    /// that is more than wait here, others are about to come.
    pub(super) async fn take(&self, part: &StickyKey, reference: &str, begun: impl Fn() -> usize) -> Turn<'_> {
        let mut all = self.waiting.subscribe();
        let waiting = (part.clone(), reference.to_owned());
        self.waiting.send_modify(|all| {
            all.insert(waiting.clone());
        });
        let place = Place { turns: self, waiting };
        let gathered = all.wait_for(|all| begun() <= all.len());
        // Only `self` drops the sender.
        let _ = tokio::time::timeout(TOGETHER, gathered).await;
        let _ = all.wait_for(|all| all.first() == Some(&place.waiting)).await;
        Turn { _turn: self.turn.lock().await, _place: place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which builds get their turns that come in the order of `parts`, a little after each other.
    async fn turns(parts: &[&'static str], begun: usize) -> Vec<&'static str> {
        let (turns, order) = (Turns::default(), std::sync::Mutex::new(Vec::new()));
        let builds = parts.iter().enumerate().map(|(number, part)| {
            let (turns, order) = (&turns, &order);
            async move {
                tokio::time::sleep(Duration::from_millis(5 * number as u64)).await;
                let key = StickyKey::new(*part);
                let turn = turns.take(&key, &format!("ref-{number}"), || begun - order.lock().unwrap().len()).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                order.lock().unwrap().push(*part);
                drop(turn);
            }
        });
        futures::future::join_all(builds).await;
        order.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn builds_that_begin_together_have_the_same_order_however_they_come() {
        for parts in [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["c", "a", "d", "b"]] {
            assert_eq!(turns(&parts, 4).await, ["a", "b", "c", "d"], "{parts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_that_is_alone_waits_for_nobody() {
        let begun = tokio::time::Instant::now();
        assert_eq!(turns(&["a"], 1).await, ["a"]);
        assert!(begun.elapsed() < Duration::from_millis(5), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_that_never_says_what_it_wants_holds_nobody_up_for_long() {
        let begun = tokio::time::Instant::now();
        assert_eq!(turns(&["b", "a"], 3).await, ["a", "b"]);
        assert!(begun.elapsed() < 2 * TOGETHER, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_is_waited_for_by_nobody() {
        let turns = Turns::default();
        let key = StickyKey::new("a");
        let first = turns.take(&key, "ref-1", || 1).await;
        let given_up = tokio::time::timeout(Duration::from_millis(1), turns.take(&key, "ref-0", || 1)).await;
        assert!(given_up.is_err(), "two had the turn");
        drop(first);
        turns.take(&StickyKey::new("b"), "ref-2", || 1).await;
    }
}
