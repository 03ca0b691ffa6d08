//! Why a command failed: what is printed, the hints, and the exit code.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};

use crate::daemon::hint;
use crate::report;

/// What the process ends with; documented in docs/cli.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The reader of our output went away: nobody is left to be told.
    Silent = 0,
    Failed = 1,
    Usage = 2,
    NoDaemon = 3,
    NotReady = 4,
    Interrupted = 130,
}

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was attempted, after "failed to": `create builder kube`.
    doing: Option<String>,
    cause: Cause,
    hints: Vec<String>,
}

#[derive(Debug)]
enum Cause {
    /// The command line asks for what cannot be.
    Usage(String),
    /// The daemon could not be reached or started.
    NoDaemon(Box<dyn Error + Send + Sync>),
    /// The daemon's answer.
    Refused(Box<Status>),
    NoAnswer(Duration),
    Interrupted,
    Output(std::io::Error),
    /// A program that was run in the cluster, with the code that it ended with.
    Ended {
        code: u8,
        text: String,
    },
    Other(String),
}

impl Failure {
    fn new(cause: Cause) -> Self {
        Self { doing: None, cause, hints: Vec::new() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Cause::Usage(text.into()))
    }

    pub(crate) fn no_daemon(error: impl Error + Send + Sync + 'static) -> Self {
        Self::new(Cause::NoDaemon(Box::new(error)))
    }

    pub(crate) fn refused(status: Status) -> Self {
        Self::new(Cause::Refused(Box::new(status)))
    }

    pub(crate) fn no_answer(waited: Duration) -> Self {
        Self::new(Cause::NoAnswer(waited))
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Cause::Interrupted)
    }

    pub(crate) fn output(error: std::io::Error) -> Self {
        Self::new(Cause::Output(error))
    }

    /// What was run elsewhere ended with `code`, and so does this process.
    pub(crate) fn ended(code: u8, text: impl Into<String>) -> Self {
        Self::new(Cause::Ended { code: code.max(1), text: text.into() })
    }

    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::new(Cause::Other(text.into()))
    }

    /// Says what was attempted; the innermost wins.
    pub(crate) fn doing(mut self, doing: impl Into<String>) -> Self {
        self.doing.get_or_insert_with(|| doing.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Whether the daemon said that the named thing does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(&self.cause, Cause::Refused(status) if status.code() == Code::NotFound)
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self.cause, Cause::Interrupted)
    }

    pub(crate) fn exit(&self) -> Exit {
        match &self.cause {
            Cause::Usage(_) => Exit::Usage,
            Cause::NoDaemon(_) => Exit::NoDaemon,
            Cause::Refused(status) => match status.code() {
                Code::InvalidArgument => Exit::Usage,
                Code::DeadlineExceeded => Exit::NotReady,
                _ => Exit::Failed,
            },
            Cause::Interrupted => Exit::Interrupted,
            Cause::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Silent,
            Cause::NoAnswer(_) | Cause::Output(_) | Cause::Ended { .. } | Cause::Other(_) => Exit::Failed,
        }
    }

    /// What the process ends with.
    pub(crate) fn code(&self) -> u8 {
        match &self.cause {
            Cause::Ended { code, .. } => *code,
            _ => self.exit() as u8,
        }
    }

    /// All that is printed: `error: …` and each hint, every line ended. Several errors at once, or a story, are a list
    /// with one line each.
    pub(crate) fn render(&self) -> String {
        if self.exit() == Exit::Silent {
            return String::new();
        }
        let mut hints = self.hints.clone();
        let text = match &self.cause {
            Cause::Usage(text) | Cause::Ended { text, .. } | Cause::Other(text) => text.clone(),
            Cause::NoDaemon(error) => report::chain(error.as_ref()),
            Cause::Refused(status) => {
                hints.splice(0..0, hint::hints(status));
                status_text(status)
            }
            Cause::NoAnswer(waited) => format!("the daemon gave no answer within {} s", waited.as_secs()),
            Cause::Interrupted => "interrupted".to_owned(),
            Cause::Output(error) => format!("failed to write the output: {error}"),
        };
        let mut out = match &self.doing {
            Some(doing) => format!("error: failed to {doing}:"),
            None => "error:".to_owned(),
        };
        let mut lines = text.lines();
        match (lines.next(), lines.next()) {
            (Some(line), None) => out.push_str(&format!(" {line}\n")),
            _ if self.doing.is_none() => out.push_str(&format!(" {}\n", indent_after_first(&text))),
            _ => {
                out.push('\n');
                text.lines().for_each(|line| out.push_str(&format!("  {line}\n")));
            }
        }
        for hint in hints {
            out.push_str(&format!("hint: {hint}\n"));
        }
        out
    }
}

fn indent_after_first(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}

/// The daemon's words; of a broken connection the cause as well.
fn status_text(status: &Status) -> String {
    let text = if status.message().is_empty() { status.code().description() } else { status.message() };
    match status.source() {
        Some(source) => {
            let cause = report::chain(source);
            if text.contains(&cause) { text.to_owned() } else { format!("{text}: {cause}") }
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_is_one_line() {
        let failure = Failure::refused(Status::not_found("no builder `nix`")).doing("inspect builder nix");
        assert_eq!(failure.render(), "error: failed to inspect builder nix: no builder `nix`\n");
        assert_eq!(failure.exit(), Exit::Failed);
    }

    #[test]
    fn several_errors_are_a_list_and_hints_come_last() {
        let status =
            Status::invalid_argument("driver option `replicas`: `x` is no number\ndriver option `rotless`: unknown");
        let status = hint::with_hint(status, "did you mean `rootless`?");
        let failure = Failure::refused(status).doing("create builder kube").hint("see docs");
        assert_eq!(
            failure.render(),
            "error: failed to create builder kube:\n  driver option `replicas`: `x` is no number\n  driver option `rotless`: unknown\nhint: did you mean `rootless`?\nhint: see docs\n"
        );
        assert_eq!(failure.exit(), Exit::Usage);
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        for (failure, code) in [
            (Failure::usage("x"), 2),
            (Failure::no_daemon(std::io::Error::other("x")), 3),
            (Failure::refused(Status::deadline_exceeded("x")), 4),
            (Failure::refused(Status::internal("x")), 1),
            (Failure::no_answer(Duration::from_secs(1)), 1),
            (Failure::interrupted(), 130),
            (Failure::output(std::io::ErrorKind::BrokenPipe.into()), 0),
            (Failure::output(std::io::ErrorKind::StorageFull.into()), 1),
            (Failure::ended(137, "x"), 137),
            (Failure::ended(0, "x"), 1),
        ] {
            assert_eq!(failure.code(), code, "{failure:?}");
        }
    }

    #[test]
    fn nobody_is_told_when_the_reader_is_gone() {
        assert_eq!(Failure::output(std::io::ErrorKind::BrokenPipe.into()).render(), "");
    }

    #[test]
    fn the_innermost_attempt_is_named() {
        let failure = Failure::other("x").doing("register the builder").doing("create builder kube");
        assert_eq!(failure.render(), "error: failed to register the builder: x\n");
    }
}
