//! Which ways into a pod to try, in which order: what worked a short time ago goes first.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Transport;
use crate::options::TransportChoice;

/// For how long the way that worked is taken without trying faster ones.
const REMEMBERED: Duration = Duration::from_secs(300);

/// The ways of one node.
#[derive(Debug)]
pub(super) struct Steps {
    choice: TransportChoice,
    /// The fastest first.
    all: &'static [Transport],
    worked: Mutex<Option<(Transport, Instant)>>,
}

impl Steps {
    pub(super) fn new(choice: TransportChoice, all: &'static [Transport]) -> Self {
        Self { choice, all, worked: Mutex::default() }
    }

    pub(super) fn choice(&self) -> TransportChoice {
        self.choice
    }

    pub(super) fn worked(&self, way: Transport) {
        *self.worked.lock().unwrap_or_else(PoisonError::into_inner) = Some((way, Instant::now() + REMEMBERED));
    }

    /// All that may be taken, for those who look at each of them.
    pub(super) fn each(&self) -> Vec<Transport> {
        match self.choice {
            TransportChoice::Auto => self.all.to_vec(),
            TransportChoice::Exec => vec![Transport::Exec],
            TransportChoice::PortForward => vec![Transport::PortForward],
            TransportChoice::PodIp => vec![Transport::PodIp],
        }
    }

    /// Which ways to try now, in which order.
    pub(super) fn now(&self, has_address: bool) -> Vec<Transport> {
        let mut steps = self.each();
        if self.choice != TransportChoice::Auto {
            return steps;
        }
        steps.retain(|way| has_address || *way != Transport::PodIp);
        let worked = *self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, until)) = worked
            && until > Instant::now()
            && let Some(at) = steps.iter().position(|way| *way == first)
        {
            steps[..=at].rotate_right(1);
        }
        steps
    }
}
