//! Waits for a child, but not for ever.

use std::io::Result;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How often it looks: what it waits for takes some ten milliseconds.
const STEP: Duration = Duration::from_millis(2);

/// `None` when the time is over; the child is ended then.
///
/// # Errors
/// When the system does not say what became of it.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_that_takes_too_long_is_ended() {
        let start = |line: &str| Command::new("/bin/sh").args(["-c", line]).spawn().expect("a shell");
        let status = wait(&mut start("exit 3"), Duration::from_secs(20)).expect("it ends");
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        assert_eq!(wait(&mut start("exec sleep 60"), Duration::from_millis(20)).expect("it is ended"), None);
    }
}
