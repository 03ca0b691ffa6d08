//! Waiting for something to become true, never for ever.

use std::time::{Duration, Instant};

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Asks again and again until there is an answer.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        // Many questions are programs, and those of other tests want the processor too: a tenth of the wait may be in vain.
        std::thread::sleep((began.elapsed() / 10).clamp(Duration::from_millis(10), Duration::from_millis(500)));
    }
}
