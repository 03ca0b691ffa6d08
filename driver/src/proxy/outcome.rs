//! How a call on a pod came out, and how a start that failed is told.

use super::forward;
use super::unary::Answer;
use crate::fleet::{Lease, StartError};
use crate::report;
use crate::wire::{Code, Status};

/// How a call on a pod came out.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Box<Answer>),
    /// The pod ended this one call and lives on.
    Reset(h2::Reason),
    /// The pod has ended, in words that name it and the reason.
    Lost(String),
}

/// What became of a call on a pod.
pub(super) async fn outcome(lease: &Lease, result: Result<Answer, h2::Error>) -> Outcome {
    match result {
        Ok(answer) => match forward::broken_off(lease, answer.end()) {
            None => Outcome::Answered(Box::new(answer)),
            Some(fate) => Outcome::Lost(format!("{} ({})", fate.text, answer.text())),
        },
        Err(error) if error.is_reset() && error.is_remote() && lease.is_usable() => {
            Outcome::Reset(error.reason().unwrap_or(h2::Reason::CANCEL))
        }
        Err(error) => Outcome::Lost(forward::lost(lease, &error).await.message),
    }
}

/// Other clients than ours print the message alone, so the hint goes with it.
pub(super) fn status_of(error: &StartError) -> Status {
    let hint = match error {
        StartError::Apply { source, .. } => source.hint().map(|hint| format!("\nhint: {hint}")),
        StartError::TimedOut { .. } | StartError::Removed(_) | StartError::ShuttingDown => None,
    };
    Status::new(Code::Unavailable, report::chain(error) + &hint.unwrap_or_default())
}
