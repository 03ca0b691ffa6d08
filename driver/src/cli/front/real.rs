//! Calls the real buildx with the user's own words, terminal and environment.

use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncBufReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::buildx::Tool;
use crate::cli::failure::Failure;
use crate::cli::output::say;

/// More than buildx's own limits, for what it does before and after them.
const SLACK: Duration = Duration::from_secs(5);

/// Runs it to its end, which it finds itself: Ctrl-C reaches it as it reaches us.
pub(super) async fn pass(tool: &Tool, arguments: &[String]) -> Result<u8, Failure> {
    // The terminal tells both of us, and the answer is the real one's.
    let _ignored = signal(SignalKind::interrupt());
    let status = tool.command(arguments).status().await.map_err(|error| not_started(tool, &error))?;
    Ok(code(status))
}

/// Runs it and passes on each line that it says on stderr, but for one that `leaves_out`.
pub(super) async fn pass_lines(
    tool: &Tool,
    arguments: &[String],
    leaves_out: impl Fn(&str) -> bool,
) -> Result<u8, Failure> {
    let mut command = tool.command(arguments);
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|error| not_started(tool, &error))?;
    if let Some(stderr) = child.stderr.take() {
        let mut lines = tokio::io::BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if !leaves_out(&line) {
                say(&line);
            }
        }
    }
    let status = child.wait().await.map_err(|error| not_started(tool, &error))?;
    Ok(code(status))
}

/// Runs it for what it prints. It is given `limit` for the status of builders, and ended when it takes far longer.
pub(super) async fn output(tool: &Tool, arguments: &[String], limit: Option<Duration>) -> Result<Output, Failure> {
    let mut command = tool.command(arguments);
    let running = command.stdin(Stdio::null()).output();
    let ended = match limit {
        Some(limit) => tokio::time::timeout(limit + SLACK, running).await.ok(),
        // `--timeout 0` is the user's wish for none.
        None => Some(running.await),
    };
    match ended {
        Some(ended) => ended.map_err(|error| not_started(tool, &error)),
        None => Err(Failure::other(format!("`{tool}` gave no answer in time"))),
    }
}

fn not_started(tool: &Tool, error: &std::io::Error) -> Failure {
    Failure::other(format!("failed to run {tool}: {error}"))
}

/// Ended by a signal, it has none of its own.
fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
