//! Where a command's words go: data to stdout, all else to stderr.

use std::io::Write;

use serde::Serialize;

use super::failure::Failure;

/// The shape of what goes to stdout, where it is not made of fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document per line; see docs/cli.md.
    Json,
}

/// Writes data; a reader that went away is told apart by its error.
pub(super) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()).map_err(Failure::output)
}

/// One document on one line.
pub(super) fn json_line(document: &impl Serialize) -> Result<String, Failure> {
    let mut line = serde_json::to_string(document)
        .map_err(|error| Failure::other(format!("failed to write the output as JSON: {error}")))?;
    line.push('\n');
    Ok(line)
}

/// A document as a value, for its fields.
pub(super) fn json_value(document: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(document)
        .map_err(|error| Failure::other(format!("failed to write the output as JSON: {error}")))
}

/// A line for the user. There is nobody to tell when stderr is closed.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
