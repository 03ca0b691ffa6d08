//! What makes builds belong together, as text that can be shown.

use std::fmt;
use std::path::Path;

/// What is shown of a key; its end tells more than its beginning.
const SHOWN: usize = 80;

/// What makes builds belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StickyKey(String);

impl StickyKey {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key of what is built in `directory`.
    pub fn of_directory(directory: &Path) -> Self {
        Self(directory.to_string_lossy().into_owned())
    }

    /// Nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// On one line and without control characters, whatever a directory is called; long ones by their end.
impl fmt::Display for StickyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = self.0.chars().count().saturating_sub(SHOWN);
        if hidden > 0 {
            f.write_str("…")?;
        }
        for c in self.0.chars().skip(hidden) {
            write!(f, "{}", if c.is_control() { '?' } else { c })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_on_one_line_by_its_end() {
        let long = format!("/{}/app", "x".repeat(100));
        let shortened = format!("…{}/app", "x".repeat(76));
        for (text, shown) in
            [("", ""), ("/src/app", "/src/app"), ("a\n\u{1b}[31mb", "a??[31mb"), (long.as_str(), shortened.as_str())]
        {
            assert_eq!(StickyKey::new(text).to_string(), shown);
        }
    }

    #[test]
    fn nothing_known_is_told_from_something() {
        assert!(StickyKey::default().is_unknown());
        assert!(!StickyKey::of_directory(Path::new("/")).is_unknown());
    }
}
