//! The command line: one file per command, a client of the daemon's API.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::client::Client;
use self::failure::{Exit, Failure};
use self::fields::{Shape, Template};
use self::output::{Format, say};
use self::progress::Style;
use crate::settings::{Environment, Process, Settings};

mod buildkit;
mod buildx;
mod certs;
mod choice;
mod client;
mod completion;
mod create;
mod daemon;
mod dial_stdio;
mod doctor;
mod du;
mod export;
mod failure;
mod fields;
mod files;
mod filter;
mod front;
mod gc;
mod history;
mod import;
mod inspect;
mod install;
mod job;
mod json;
mod lines;
mod logs;
mod ls;
mod man;
mod manifests;
mod objects;
mod output;
mod pick;
mod platforms;
mod progress;
mod prune;
mod rm;
#[cfg(test)]
mod samples;
mod select;
mod socket;
mod start;
mod stop;
mod table;
mod tar;
mod top;
mod units;
mod version;

/// Local sockets in front of a fleet of BuildKit pods
#[derive(Debug, Parser)]
#[command(name = "buildfleet", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The shape of the output: text, json (one document per line), or for lists fields as in '{{.Name}}'
    #[arg(long, global = true, default_value = "text", hide_default_value = true, value_name = "FORMAT")]
    format: Shape,
    /// Print no progress and no notes, only errors, warnings and the output
    #[arg(long, short, global = true)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong command line, 3 no daemon, 4 pods not ready in time, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    // The largest by far; boxed so that the others stay small.
    Create(Box<create::Args>),
    Ls(ls::Args),
    Inspect(inspect::Args),
    Socket(socket::Args),
    Use(select::Args),
    Start(start::Args),
    Stop(stop::Args),
    Rm(rm::Args),
    Gc(gc::Args),
    Import(import::Args),
    Export(export::Args),
    Manifests(Box<manifests::Args>),
    Logs(logs::Args),
    Job(job::Args),
    Du(du::Args),
    Prune(prune::Args),
    History(history::Args),
    Top(top::Args),
    Doctor(doctor::Args),
    DialStdio(dial_stdio::Args),
    // Boxed as `Create` is.
    Certs(Box<certs::Args>),
    Pick(pick::Args),
    Install(install::InstallArgs),
    Uninstall(install::UninstallArgs),
    Daemon(daemon::Args),
    Version(version::Args),
    Completion(completion::Args),
    Man(man::Args),
}

impl Command {
    /// Whether its output can be made of fields.
    fn lists(&self) -> bool {
        match self {
            Self::Ls(_) | Self::Du(_) | Self::Top(_) => true,
            Self::History(args) => args.lists(),
            Self::Job(args) => args.lists(),
            _ => false,
        }
    }
}

/// Runs one command and returns what the process ends with.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    // Its arguments are buildx's, in another grammar, and none of ours is among them.
    if args.get(1).is_some_and(|word| word == front::NAME) {
        let arguments: Vec<String> = args[2..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
        return front::run(&arguments);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions go to stdout and are no failure; there is nobody to tell that a stream is closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.render();
            if !text.is_empty() {
                say(text.trim_end());
            }
            ExitCode::from(failure.code())
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let Cli { command, format, quiet } = cli;
    let (format, fields) = match format {
        Shape::Text => (Format::Text, None),
        Shape::Json => (Format::Json, None),
        Shape::Fields(template) if command.lists() => (Format::Text, Some(template)),
        Shape::Fields(_) => {
            return Err(Failure::usage("this command lists nothing: its --format is text or json, and has no fields"));
        }
    };
    let settings = Settings::read(&Process);
    // None of them needs a working environment.
    let command = match command {
        Command::Completion(args) => return completion::run(&args),
        Command::Man(args) => return man::run(&args, quiet),
        Command::Pick(args) => return pick::run(&args, format),
        Command::Install(args) => return install::install(&args, format, quiet),
        Command::Uninstall(args) => return install::uninstall(&args, format, quiet),
        Command::Version(args) => return block_on(version::run(args, settings.as_ref().ok(), format)),
        command => command,
    };
    let settings = settings.map_err(|error| Failure::usage(error.to_string()))?;
    if let Command::Daemon(args) = command {
        return daemon::run(&args, settings);
    }
    let progress = Style::of_stderr(quiet, &settings, &Process);
    let context = Context { settings, format, fields, quiet, progress };
    block_on(async {
        match command {
            Command::Create(args) => create::run(*args, &context).await,
            Command::Ls(args) => ls::run(args, &context).await,
            Command::Inspect(args) => inspect::run(args, &context).await,
            Command::Socket(args) => socket::run(args, &context).await,
            Command::Use(args) => select::run(args, &context).await,
            Command::Start(args) => start::run(args, &context).await,
            Command::Stop(args) => stop::run(args, &context).await,
            Command::Rm(args) => rm::run(args, &context).await,
            Command::Gc(args) => gc::run(args, &context).await,
            Command::Import(args) => import::run(args, &context).await,
            Command::Export(args) => export::run(args, &context).await,
            Command::Manifests(args) => manifests::run(*args, &context).await,
            Command::Logs(args) => logs::run(args, &context).await,
            Command::Job(args) => job::run(args, &context).await,
            Command::Du(args) => du::run(args, &context).await,
            Command::Prune(args) => prune::run(args, &context).await,
            Command::History(args) => history::run(args, &context).await,
            Command::Top(args) => top::run(args, &context).await,
            Command::Doctor(args) => doctor::run(args, &context).await,
            Command::DialStdio(args) => dial_stdio::run(args, &context).await,
            Command::Certs(args) => certs::run(*args, &context).await,
            // Done above.
            Command::Daemon(_)
            | Command::Version(_)
            | Command::Completion(_)
            | Command::Man(_)
            | Command::Pick(_)
            | Command::Install(_)
            | Command::Uninstall(_) => Ok(()),
        }
    })
}

/// A client needs one thread.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::other(format!("failed to start the runtime: {error}")))?;
    let ended = runtime.block_on(command);
    // A thread may still wait for a key or for the end of stdin, which nobody reads any more.
    runtime.shutdown_background();
    ended
}

/// What every command has at hand.
#[derive(Debug)]
struct Context {
    settings: Settings,
    format: Format,
    /// In the place of `format`, for commands that list.
    fields: Option<Template>,
    quiet: bool,
    progress: Style,
}

impl Context {
    async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.settings).await
    }

    /// The builder that is meant; empty: the current one.
    fn builder(&self, given: Option<String>) -> String {
        given.or_else(|| self.settings.builder().map(str::to_owned)).unwrap_or_default()
    }

    /// Whether this process runs in a pod with a service account, as client-go finds out.
    fn in_cluster(&self) -> bool {
        Process.var("KUBERNETES_SERVICE_HOST").is_some()
            && Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()
    }

    /// The outcome, where there is no data to print.
    fn said(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    fn info(&self, text: &str) {
        self.said(&format!("info: {text}"));
    }

    fn warning(&self, text: &str) {
        say(&format!("warning: {text}"));
    }

    fn hint(&self, text: &str) {
        say(&format!("hint: {text}"));
    }

    /// Does `one` for each. One that fails does not keep the others, but Ctrl-C does; the first failure is the command's.
    async fn each<T>(&self, all: Vec<T>, mut one: impl AsyncFnMut(T) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut first = None;
        for each in all {
            match one(each).await {
                Ok(()) => {}
                Err(failure) if failure.is_interrupted() => return Err(failure),
                Err(failure) => match &first {
                    None => first = Some(failure),
                    Some(_) => self.failed(&failure),
                },
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// A failure that is not the command's own.
    fn failed(&self, failure: &Failure) {
        say(failure.render().trim_end());
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::error::ErrorKind> {
        Cli::try_parse_from(std::iter::once("buildfleet").chain(line.split(' '))).map_err(|error| error.kind())
    }

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_that_are_accepted() {
        for line in [
            "create",
            "create --name kube --driver kubernetes --driver-opt namespace=builds,replicas=2 --bootstrap",
            "create --name kube --append --node kube1 --platform linux/arm64 --platform linux/arm/v7",
            "create --name kube --leave --node kube1",
            "create --name r --driver remote unix:///run/buildkit/buildkitd.sock",
            "create --buildkitd-flags --debug",
            "create --name kube --kubeconfig k --context c --timeout 90s --use --dry-run",
            "ls",
            "ls --format json --no-trunc",
            "ls --format table",
            "--format json ls",
            "-q inspect kube --bootstrap",
            "inspect",
            "socket kube --node kube0",
            "use kube",
            "stop",
            "rm kube local --force",
            "rm --all",
            "logs kube0 --follow --tail 20",
            "daemon",
            "version",
            "completion bash",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
        }
    }

    #[test]
    fn lines_that_are_refused() {
        use clap::error::ErrorKind;
        for (line, kind) in [
            ("create --append", ErrorKind::MissingRequiredArgument),
            ("create --leave --name kube", ErrorKind::MissingRequiredArgument),
            ("create --leave --node kube0", ErrorKind::MissingRequiredArgument),
            ("create --leave --name kube --node kube0 --append", ErrorKind::ArgumentConflict),
            ("create --leave --name kube --node kube0 --bootstrap", ErrorKind::ArgumentConflict),
            ("create --nmae kube", ErrorKind::UnknownArgument),
            ("create a b", ErrorKind::UnknownArgument),
            ("rm", ErrorKind::MissingRequiredArgument),
            ("rm kube --all", ErrorKind::ArgumentConflict),
            ("use", ErrorKind::MissingRequiredArgument),
            ("logs", ErrorKind::MissingRequiredArgument),
            ("logs kube0 --tail 0", ErrorKind::ValueValidation),
            ("ls --format yaml", ErrorKind::ValueValidation),
            ("ls --format {{.Name", ErrorKind::ValueValidation),
            ("list", ErrorKind::InvalidSubcommand),
            ("completion cmd", ErrorKind::InvalidValue),
        ] {
            assert_eq!(parse(line).expect_err(line), kind, "{line}");
        }
    }
}
