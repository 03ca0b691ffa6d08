//! Calls buildx: bounded, with its words when it fails.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

/// What docker sets for its plugins. With them, buildx takes itself for a plugin in the place of ours.
const PLUGIN_VARIABLES: [&str; 3] =
    ["DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", "DOCKER_CLI_PLUGIN_SOCKET", "DOCKER_CLI_PLUGIN_USE_DIAL_STDIO"];

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    #[error("failed to start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no answer in time")]
    TimedOut,
    /// In buildx's words.
    #[error("{0}")]
    Failed(String),
}

/// A buildx that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool {
    program: PathBuf,
    /// Called as `docker buildx`.
    by_docker: bool,
    /// What docker runs then: what only has to be read is asked of it without docker, which starts it twice.
    plugin: Option<PathBuf>,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.program.display(), if self.by_docker { " buildx" } else { "" })
    }
}

impl Tool {
    /// `docker` is asked for its plugin; anything else is buildx itself.
    pub(super) fn at(program: PathBuf) -> Self {
        let by_docker = program.file_name().is_some_and(|name| name == "docker");
        Self { program, by_docker, plugin: None }
    }

    /// `docker`, of which it is known which plugin it runs.
    pub(super) fn with_plugin(docker: PathBuf, plugin: PathBuf) -> Self {
        Self { program: docker, by_docker: true, plugin: Some(plugin) }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Whether it is there and says that it is docker's buildx, which a wrapper of ours does not.
    pub(super) async fn is_buildx(&self, limit: Duration) -> bool {
        if self.program.components().count() > 1 && !self.program.exists() {
            return false;
        }
        let said = self.call(&["version".to_owned()], Instant::now() + limit).await;
        said.is_ok_and(|text| text.contains("github.com/docker/buildx"))
    }

    /// Its command line, with all that this process has: its environment, terminal and directory.
    pub(in crate::cli) fn command(&self, arguments: &[String]) -> Command {
        let words = self.by_docker.then_some("buildx");
        prepared(&self.program, words.into_iter().chain(arguments.iter().map(String::as_str)))
    }

    fn quick_command(&self, arguments: &[String]) -> Command {
        match &self.plugin {
            Some(plugin) => prepared(plugin, arguments.iter().map(String::as_str)),
            None => self.command(arguments),
        }
    }

    /// What it prints to stdout.
    pub(super) async fn call(&self, arguments: &[String], deadline: Instant) -> Result<String, ToolError> {
        self.said(self.quick_command(arguments), deadline).await
    }

    /// The same with another directory for its store.
    pub(super) async fn call_in(
        &self,
        store: &Path,
        arguments: &[String],
        deadline: Instant,
    ) -> Result<String, ToolError> {
        let mut command = self.quick_command(arguments);
        command.env("BUILDX_CONFIG", store);
        self.said(command, deadline).await
    }

    async fn said(&self, mut command: Command, deadline: Instant) -> Result<String, ToolError> {
        command.stdin(Stdio::null());
        let output = match timeout_at(deadline, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(source)) => return Err(ToolError::Spawn { program: self.program.clone(), source }),
            Err(_) => return Err(ToolError::TimedOut),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = last_line(&String::from_utf8_lossy(&output.stderr));
        Err(ToolError::Failed(if said.is_empty() { output.status.to_string() } else { said }))
    }

    /// The command as a user would type it.
    pub(super) fn line(&self, arguments: &[String]) -> String {
        let name = if self.by_docker { "docker buildx".to_owned() } else { quoted(&self.program.to_string_lossy()) };
        let words = arguments.iter().map(|word| quoted(word));
        std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
    }
}

fn prepared<'a>(program: &Path, words: impl Iterator<Item = &'a str>) -> Command {
    let mut command = Command::new(program);
    command.args(words).kill_on_drop(true);
    PLUGIN_VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    // What stands before buildx would come back here.
    command.env(buildfleet_shim::SHIM, "off");
    command
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// buildx's error comes last.
fn last_line(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.strip_prefix("ERROR: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_for_a_shell() {
        let words = ["create", "--name", "kube", "unix:///a b/it's.sock"].map(str::to_owned);
        assert_eq!(
            Tool::at("/usr/bin/docker".into()).line(&words),
            r"docker buildx create --name kube 'unix:///a b/it'\''s.sock'"
        );
        assert_eq!(Tool::at("/x/docker-buildx".into()).line(&words[..1]), "/x/docker-buildx create");
    }

    #[test]
    fn the_last_line_is_the_error() {
        assert_eq!(last_line("WARNING: x\nERROR: no builder \"nope\" found\n\n"), "no builder \"nope\" found");
        assert_eq!(last_line(""), "");
    }

    #[tokio::test]
    async fn a_call_is_bounded_and_told_apart_from_a_failure() {
        let shell = |script: &str| ["-c".to_owned(), script.to_owned()];
        let tool = Tool::at("/bin/sh".into());
        let deadline = Instant::now() + Duration::from_secs(20);
        assert_eq!(tool.call(&shell("echo out; echo err >&2"), deadline).await.expect("it succeeds"), "out\n");
        let failed = tool.call(&shell("echo ERROR: no >&2; exit 3"), deadline).await.expect_err("it fails");
        assert_eq!(failed.to_string(), "no");
        let failed = tool.call(&shell("exit 3"), deadline).await.expect_err("it fails");
        assert_eq!(failed.to_string(), "exit status: 3");
        let soon = Instant::now() + Duration::from_millis(50);
        assert!(matches!(tool.call(&shell("sleep 20"), soon).await, Err(ToolError::TimedOut)));
    }
}
