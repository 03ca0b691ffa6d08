//! The program: where log lines go, and on to the command line or into a child of the local backend.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Mutex;

use buildfleet::backend::local::child::{SUBCOMMAND, exec_from_arguments};
use buildfleet::daemon::launch::ON_DEMAND;
use buildfleet::daemon::logfile::LogFile;
use buildfleet::report;
use buildfleet::settings::{LogFormat, Process, Settings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before any thread and any other thing: this process is about to become another program.
    if args.get(1).is_some_and(|command| command == SUBCOMMAND) {
        // It returns only when it failed.
        eprintln!("{}", report::chain(&exec_from_arguments(args.into_iter().skip(2))));
        return ExitCode::FAILURE;
    }
    // Wrong settings are reported by the commands that need them.
    if let Ok(settings) = Settings::read(&Process) {
        let is_daemon = args.get(1).is_some_and(|command| command == "daemon");
        log(&settings, is_daemon, is_daemon && args.iter().any(|arg| arg == ON_DEMAND));
    }
    buildfleet::cli::run(args.into_iter())
}

fn log(settings: &Settings, is_daemon: bool, on_demand: bool) {
    if on_demand {
        match LogFile::open(&settings.daemon_log()) {
            Ok(file) => return log_to(settings, "info", false, Mutex::new(file)),
            Err(error) => eprintln!("{error}"),
        }
    }
    let default = if is_daemon { "info" } else { "error" };
    log_to(settings, default, !settings.no_color(), std::io::stderr);
}

fn log_to(settings: &Settings, default: &str, color: bool, to: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) {
    let filter = EnvFilter::try_new(settings.log_filter().unwrap_or(default)).unwrap_or_else(|error| {
        eprintln!("BUILDFLEET_LOG is ignored: {error}");
        EnvFilter::new(default)
    });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to);
    match settings.log_format() {
        LogFormat::Text => lines.with_ansi(color && std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().init(),
    }
}
