//! `buildfleet buildx`: what `docker buildx create`, `ls` and the like become for builders of ours.
//!
//! The plugin that stands before docker's own buildx runs it. Flags, output, words and exit codes are buildx's; what is not
//! ours is handed to the real one. docs/compat.md says where the two differ.

use std::process::ExitCode;
use std::time::Duration;

use self::commands::{Command, Line};
use self::pflag::Given;
use self::whose::Whose;
use super::buildx::{self, Tool};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::{Format, say};
use super::progress::Style;
use super::{Context, block_on};
use crate::settings::{Process, Settings};

mod cache;
mod commands;
mod create;
mod docker;
mod inspect;
mod ls;
mod others;
mod pflag;
mod real;
mod rm;
mod rows;
mod whose;

/// The word after `buildfleet` that leads here.
pub(super) const NAME: &str = "buildx";

/// buildx's own `--timeout`, when none is given.
const STATUS: Duration = Duration::from_secs(20);

/// Said where the real buildx would do what we do not.
const TO_THE_REAL_ONE: &str = "BUILDFLEET_SHIM=off before a command gives it to docker's own buildx";

/// Runs one command of buildx's and returns what the process ends with.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let line = match commands::read(arguments) {
        Ok(line) => line,
        Err(misuse) => {
            say(misuse.text.trim_end());
            return ExitCode::from(misuse.code);
        }
    };
    let mut code = 0;
    let ended = block_on(async {
        code = execute(line, arguments).await?;
        Ok(())
    });
    match ended {
        Ok(()) => ExitCode::from(code),
        Err(failure) => {
            let text = as_buildx(&failure);
            if !text.is_empty() {
                say(text.trim_end());
            }
            ExitCode::from(match failure.exit() {
                Exit::Silent => 0,
                Exit::Interrupted => 130,
                _ => 1,
            })
        }
    }
}

/// Of a command that was done here, zero; else what the real buildx ended with.
async fn execute(line: Line, arguments: &[String]) -> Result<u8, Failure> {
    let settings = Settings::read(&Process).map_err(|error| Failure::other(error.to_string()))?;
    let progress = Style::of_stderr(false, &settings, &Process);
    let context = Context { settings, format: Format::Text, fields: None, quiet: true, progress };
    let call = Call { context, arguments: arguments.to_vec() };
    let Line::Ours(command, given) = line else { return call.relay().await };
    match command {
        Command::Create => create::run(call, &given).await,
        Command::Ls => ls::run(call, &given).await,
        Command::Inspect => inspect::run(call, &given).await,
        Command::Rm => rm::run(call, &given).await,
        Command::Stop => rm::stop(call, &given).await,
        Command::Use => select(call, &given).await,
        Command::Du => cache::du(call, &given).await,
        Command::Prune => cache::prune(call, &given).await,
    }
}

/// One command of buildx's.
struct Call {
    context: Context,
    /// As the user gave them.
    arguments: Vec<String>,
}

impl Call {
    async fn client(&self) -> Result<Client, Failure> {
        self.context.client().await
    }

    async fn real(&self) -> Result<Tool, Failure> {
        let missing = || Failure::other("found no docker buildx").hint("BUILDFLEET_BUILDX may name it");
        buildx::tool(&self.context).await.ok_or_else(missing)
    }

    /// The same command by the real buildx.
    async fn relay(&self) -> Result<u8, Failure> {
        real::pass(&self.real().await?, &self.arguments).await
    }

    /// Whose the builder is that the command names, or that is meant without a name.
    fn whose(&self, given: &Given) -> Result<Whose, Failure> {
        Whose::of(given.words.first().map(String::as_str), given, self.context.settings.runtime_dir())
    }

    /// How long the status of builders may take to load.
    fn limit(&self, given: &Given) -> Option<Duration> {
        match given.duration("timeout") {
            Some(given) => given.limit(),
            None => Some(STATUS),
        }
    }

    /// Whether buildx's store has a builder of ours that the daemon has not: it was made by a daemon whose state is gone.
    async fn is_unknown(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.client().await?.list().await?.iter().all(|builder| builder.name != name))
    }

    fn warning(&self, text: &str) {
        self.context.warning(text);
    }
}

/// `use`: in buildx's store by buildx itself, and then here.
async fn select(call: Call, given: &Given) -> Result<u8, Failure> {
    let whose = call.whose(given)?;
    let code = call.relay().await?;
    if let (0, Whose::Ours(name)) = (code, whose)
        && let Err(failure) = async { call.client().await?.select(&name).await }.await
    {
        call.context.failed(&failure);
    }
    Ok(code)
}

/// A failure as buildx begins it.
fn as_buildx(failure: &Failure) -> String {
    let text = failure.render();
    match text.strip_prefix("error:") {
        Some(rest) => format!("ERROR:{rest}"),
        None => text,
    }
}
