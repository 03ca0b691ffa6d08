//! `buildfleet install` and `buildfleet uninstall`: the plugins of docker, put where docker finds them first.

use std::path::{Path, PathBuf};

use buildfleet_shim::docker::{Config, ConfigError, Globals, config_dir};
use buildfleet_shim::plugin::BUILDFLEET;
use buildfleet_shim::plugins::SYSTEM_DIRS;
use buildfleet_shim::real::{Ourselves, Remembered, metadata};
use serde::Serialize;

use self::plan::{Places, Refusal, Scope, Step};
use super::failure::Failure;
use super::output::{Format, json_line, print, say};
use crate::report;
use crate::settings::{Environment, Process};

mod apply;
mod config;
mod plan;
#[cfg(test)]
mod tests;

/// Make `docker buildx` and `docker buildfleet` commands of this program
///
/// Links go into docker's plugin directory; the buildx that is there already is neither moved nor changed, and gets every
/// command that is not for a builder of ours.
#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    scope: ScopeArgs,
}

/// Take away what `install` has made, and nothing else
#[derive(Debug, clap::Args)]
pub(super) struct UninstallArgs {
    #[command(flatten)]
    scope: ScopeArgs,
}

#[derive(Debug, clap::Args)]
struct ScopeArgs {
    /// For this user, in docker's configuration directory (the default)
    #[arg(long, conflicts_with = "system")]
    user: bool,
    /// For all users of this machine, in /usr/local/lib/docker/cli-plugins
    #[arg(long)]
    system: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl ScopeArgs {
    fn scope(&self) -> Scope {
        if self.system { Scope::System } else { Scope::User }
    }
}

/// Why docker does not run our plugins.
#[derive(Debug, thiserror::Error)]
enum InstallError {
    #[error("found no configuration directory of docker: neither DOCKER_CONFIG nor HOME is set")]
    NoConfigDir,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("found no {} to link to", .0.display())]
    NoPlugin(PathBuf),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{} does not say who it is, as plugins of docker do", .0.display())]
    Mute(PathBuf),
    #[error("failed to {doing}")]
    Step {
        doing: String,
        #[source]
        source: std::io::Error,
    },
    #[error("docker still takes buildx from {}", .0.display())]
    NotFirst(PathBuf),
}

impl InstallError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPlugin(_) => "install the whole package: the plugin's program lies beside buildfleet".to_owned(),
            Self::Refused(Refusal::Taken(_)) => {
                "`buildfleet install --user` puts a directory before it for one user".to_owned()
            }
            Self::Refused(Refusal::NotALink(path)) => format!("move {} away, then try again", path.display()),
            Self::Config(_) => "docker reads this file, too: mend it, then try again".to_owned(),
            Self::Mute(path) => {
                format!("`{} docker-cli-plugin-metadata` shows why; BUILDFLEET_BUILDX names another", path.display())
            }
            Self::Step { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "run it as the owner of that directory (with --system, as root)".to_owned()
            }
            Self::NotFirst(_) => "`buildfleet doctor` shows where docker looks for plugins".to_owned(),
            Self::NoConfigDir | Self::Step { .. } => return None,
        })
    }

    fn into_failure(self, doing: &str) -> Failure {
        let failure = Failure::other(report::chain(&self)).doing(doing);
        match self.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What was done or, in a dry run, would be.
#[derive(Debug)]
struct Outcome {
    steps: Vec<Step>,
    real: Option<Remembered>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    result: &'static str,
    dry_run: bool,
    steps: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buildx: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

pub(super) fn install(args: &InstallArgs, format: Format, quiet: bool) -> Result<(), Failure> {
    let told = Told { format, quiet, dry_run: args.scope.dry_run };
    let outcome =
        installed(args.scope.scope(), told.dry_run).map_err(|error| error.into_failure("install the plugins"))?;
    let first = Config::read(config_dir(&Process, &Globals::default()).unwrap_or_default());
    let first = first.ok().and_then(|config| plan::first(&config));
    told.outcome("installed", &outcome, first.clone())?;
    if quiet || told.dry_run || told.format == Format::Json {
        return Ok(());
    }
    match (&outcome.real, first) {
        // Those of one user come before those of all.
        (Some(_), Some(first)) if !ourselves().is_ok_and(|ourselves| ourselves.is(&first)) => {
            say(&format!("warning: this user's docker takes buildx from {}", first.display()));
            say("hint: `buildfleet install --user` puts a directory before it");
        }
        (Some(real), Some(first)) => say(&format!(
            "info: docker buildx is {}, which stands before {} ({})",
            first.display(),
            real.path().display(),
            real.version()
        )),
        _ => {
            say("info: found no docker buildx, so that only `docker buildfleet` was installed");
            say("hint: install docker's buildx, then run `buildfleet install` again");
        }
    }
    Ok(())
}

pub(super) fn uninstall(args: &UninstallArgs, format: Format, quiet: bool) -> Result<(), Failure> {
    let told = Told { format, quiet, dry_run: args.scope.dry_run };
    let outcome =
        uninstalled(args.scope.scope(), told.dry_run).map_err(|error| error.into_failure("take the plugins away"))?;
    told.outcome("uninstalled", &outcome, None)
}

fn installed(scope: Scope, dry_run: bool) -> Result<Outcome, InstallError> {
    let config = read_config()?;
    let ourselves = ourselves()?;
    let places = Places { config: &config, system_dir: SYSTEM_DIRS[0].into(), ourselves: &ourselves };
    let real = real(&places)?;
    let steps = plan::install(&places, scope, real.as_ref())?;
    if !dry_run {
        apply_all(&steps)?;
        if scope == Scope::User
            && real.is_some()
            && let Some(first) = plan::first(&read_config()?)
            && !ourselves.is(&first)
        {
            return Err(InstallError::NotFirst(first));
        }
    }
    Ok(Outcome { steps, real })
}

fn uninstalled(scope: Scope, dry_run: bool) -> Result<Outcome, InstallError> {
    let config = read_config()?;
    // What is left of a package that is gone can still be taken away.
    let ourselves = ourselves().unwrap_or_default();
    let places = Places { config: &config, system_dir: SYSTEM_DIRS[0].into(), ourselves: &ourselves };
    let steps = plan::uninstall(&places, scope);
    if !dry_run {
        apply_all(&steps)?;
    }
    Ok(Outcome { steps, real: None })
}

fn read_config() -> Result<Config, InstallError> {
    let dir = config_dir(&Process, &Globals::default()).ok_or(InstallError::NoConfigDir)?;
    // Links and lists of docker's hold whole paths.
    let dir = Process.current_dir().unwrap_or_default().join(dir);
    Ok(Config::read(dir)?)
}

/// The plugin's program, which lies beside this one.
fn ourselves() -> Result<Ourselves, InstallError> {
    let own = std::env::current_exe().unwrap_or_default();
    let program = own.with_file_name(BUILDFLEET);
    if program.is_file() { Ok(Ourselves { program, link_dir: None }) } else { Err(InstallError::NoPlugin(program)) }
}

/// Looked for anew, because a better one may be there; else the one that was remembered, which only a variable named.
fn real(places: &Places<'_>) -> Result<Option<Remembered>, InstallError> {
    let remembered = || {
        let dirs =
            [places.own_dir(), buildfleet_shim::plugins::user_dir(places.config.dir()), places.system_dir.clone()];
        let paths = dirs.iter().filter_map(|dir| Some(Remembered::read(dir)?.path().to_owned()));
        paths.into_iter().find(|path| places.ourselves.is_other(path))
    };
    let Some(path) = places.ourselves.find_real(&Process, &Globals::default()).or_else(remembered) else {
        return Ok(None);
    };
    let path = Process.current_dir().unwrap_or_default().join(path);
    let Some(metadata) = metadata(&path) else { return Err(InstallError::Mute(path)) };
    Remembered::of(&path, &metadata.version)
        .map(Some)
        .map_err(|source| InstallError::Step { doing: format!("look at {}", path.display()), source })
}

fn apply_all(steps: &[Step]) -> Result<(), InstallError> {
    for step in steps {
        apply::apply(step).map_err(|source| InstallError::Step { doing: words(step), source })?;
    }
    Ok(())
}

/// How the outcome is told.
#[derive(Debug, Clone, Copy)]
struct Told {
    format: Format,
    quiet: bool,
    dry_run: bool,
}

impl Told {
    fn outcome(self, result: &'static str, outcome: &Outcome, plugin: Option<PathBuf>) -> Result<(), Failure> {
        if self.format == Format::Json {
            let real = outcome.real.as_ref();
            return print(json_line(&Document {
                result,
                dry_run: self.dry_run,
                steps: outcome.steps.iter().map(words).collect(),
                plugin: plugin.filter(|_| real.is_some()),
                buildx: real.map(Remembered::path),
                version: real.map(Remembered::version),
            })?);
        }
        if self.quiet {
            return Ok(());
        }
        let done = if self.dry_run { "would" } else { "done" };
        outcome.steps.iter().for_each(|step| say(&format!("{done}: {}", words(step))));
        if outcome.steps.is_empty() {
            say("info: nothing to do");
        }
        Ok(())
    }
}

fn words(step: &Step) -> String {
    match step {
        Step::Link { path, target } => format!("link {} to {}", path.display(), target.display()),
        Step::Remember { path, real } => {
            format!("note {} ({}) in {}", real.path().display(), real.version(), path.display())
        }
        Step::PutFirst { config, dir } => {
            format!("put {} first in cliPluginsExtraDirs of {}", dir.display(), config.display())
        }
        Step::TakeOut { config, dir } => {
            format!("take {} out of cliPluginsExtraDirs of {}", dir.display(), config.display())
        }
        Step::Remove { path } => format!("remove {}", path.display()),
        Step::RemoveDir { path } => format!("remove {} if it is empty", path.display()),
    }
}
