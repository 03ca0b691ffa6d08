//! How long a crashed `buildkitd` waits for its next start: pure.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubling delays with a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    first: Duration,
    ceiling: Duration,
    healthy: Duration,
}

impl Backoff {
    /// The first delay, the longest one, and how long a process has to run for its earlier crashes to be forgotten.
    ///
    /// `None` when the ceiling is below the first delay, or the first delay is zero.
    pub(super) fn try_new(first: Duration, ceiling: Duration, healthy: Duration) -> Option<Self> {
        (!first.is_zero() && first <= ceiling).then_some(Self { first, ceiling, healthy })
    }

    /// Failures in a row after one more process that ran for `ran`.
    pub(super) fn failures_after(&self, failures: u32, ran: Duration) -> u32 {
        if ran >= self.healthy { 1 } else { failures.saturating_add(1) }
    }

    /// The delay after `failures` failures in a row. `jitter`, in 0..=1, takes up to a quarter off, so that pods that
    /// crashed together do not start together.
    pub(super) fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.ceiling);
        full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
    }
}

/// A number in 0..=1, another one at each call.
pub(super) fn jitter() -> f64 {
    let random = RandomState::new().hash_one(std::process::id());
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn backoff() -> Backoff {
        Backoff::try_new(ms(500), ms(30_000), ms(60_000)).unwrap()
    }

    #[test]
    fn delays_double_up_to_the_ceiling() {
        for (failures, delay) in
            [(0, 500), (1, 500), (2, 1000), (3, 2000), (6, 16_000), (7, 30_000), (8, 30_000), (u32::MAX, 30_000)]
        {
            assert_eq!(backoff().delay(failures, 0.0), ms(delay), "{failures}");
        }
    }

    #[test]
    fn jitter_takes_at_most_a_quarter_off() {
        for (jitter, delay) in [(0.0, 2000), (0.5, 1750), (1.0, 1500), (7.0, 1500), (-1.0, 2000)] {
            assert_eq!(backoff().delay(3, jitter), ms(delay), "{jitter}");
        }
    }

    #[test]
    fn a_healthy_while_forgets_earlier_crashes() {
        assert_eq!(backoff().failures_after(5, ms(59_999)), 6);
        assert_eq!(backoff().failures_after(5, ms(60_000)), 1);
        assert_eq!(backoff().failures_after(u32::MAX, ms(0)), u32::MAX);
    }

    #[test]
    fn delays_that_could_not_grow_are_refused() {
        assert_eq!(Backoff::try_new(ms(0), ms(1), ms(1)), None);
        assert_eq!(Backoff::try_new(ms(2), ms(1), ms(1)), None);
    }

    #[test]
    fn jitter_stays_in_its_range_and_varies() {
        let some: Vec<f64> = (0..16).map(|_| jitter()).collect();
        assert!(some.iter().all(|jitter| (0.0..=1.0).contains(jitter)), "{some:?}");
        assert!(some.iter().any(|jitter| *jitter != some[0]), "{some:?}");
    }
}
