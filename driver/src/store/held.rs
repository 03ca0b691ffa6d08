//! A file that one process keeps to itself.

use std::fs::{File, TryLockError};

/// A lock that ends when this is dropped. Closing the file would not be enough: a program that is being started has it, too, for
/// a moment longer than the call that starts it.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Held {
    /// Does not wait.
    pub(crate) fn try_new(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Should it fail, the closing of the file is what is left.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_free_at_once_though_a_program_that_is_being_started_still_has_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = Held::try_new(file.reopen().unwrap()).unwrap();
        assert!(matches!(Held::try_new(file.reopen().unwrap()), Err(TryLockError::WouldBlock)));
        let _of_the_program = held.0.try_clone().unwrap();
        drop(held);
        Held::try_new(file.reopen().unwrap()).unwrap();
    }
}
