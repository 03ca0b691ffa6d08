//! How often a build is begun at most, and what its client is told when it is not begun anew.

use crate::wire::{Code, Status};

/// How often a build is begun at most.
const ATTEMPTS: usize = 4;

pub(super) const DELIVERED: &str = "a part of its export was delivered";

/// Why a pod did not come to have a build with all that its client did so far.
pub(super) enum NotBegun {
    /// The pod has ended; another one may have the build.
    Again(String),
    Never(Status),
}

pub(super) fn not_again(why: &str) -> String {
    format!("the build was not begun anew, because {why}")
}

/// Why so many tries are enough, when they are.
pub(super) fn limit(tries: usize, text: &str) -> Option<String> {
    if tries >= ATTEMPTS {
        return Some(format!("the build was tried {tries} times"));
    }
    let twice = tries > 1 && text.contains("OOMKilled");
    twice.then(|| not_again("it may need more memory than its pods have"))
}

/// What the client is told of a pod that has ended, and of why its build ends with it.
pub(super) fn given_up(text: &str, obstacle: &str) -> Status {
    let told = if obstacle.is_empty() { text.to_owned() } else { format!("{text}; {obstacle}") };
    Status::new(Code::Unavailable, told)
}
