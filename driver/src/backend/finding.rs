//! What a backend finds out about itself when it is asked: what works, and what its pods use.

use std::time::Duration;

use super::BoxError;
use crate::builder::PodName;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, in a word or two.
    pub subject: String,
    pub verdict: Verdict,
    pub text: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// Whether something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Works,
    /// Neither good nor bad: it could not be told, or is told for completeness.
    Note,
    /// Builds work, but something is not as it should be.
    Warning,
    Fails,
}

impl Finding {
    pub fn new(verdict: Verdict, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict, text: text.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What a pod uses now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUsage {
    pub pod: PodName,
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    pub memory_bytes: u64,
}

/// Why it is not known what pods use.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("somebody else runs its pods, and only they see what these use")]
    Unsupported,
    #[error(transparent)]
    Failed(BoxError),
}

/// A span of time for people: milliseconds where it is short.
pub(super) fn span(took: Duration) -> String {
    match took {
        short if short < Duration::from_millis(10) => format!("{:.1} ms", short.as_secs_f64() * 1000.0),
        short if short < Duration::from_secs(1) => format!("{} ms", short.as_millis()),
        long => format!("{:.1} s", long.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_for_people() {
        for (micros, wanted) in [(1_240, "1.2 ms"), (40_000, "40 ms"), (1_250_000, "1.2 s")] {
            assert_eq!(span(Duration::from_micros(micros)), wanted);
        }
    }
}
