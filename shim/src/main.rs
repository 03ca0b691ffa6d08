//! The plugins for docker: `docker buildfleet …` runs `buildfleet …`, and `docker buildx …` the real buildx or, for
//! builders of ours, `buildfleet`.
//!
//! One program for both; the name that it was called by says which. It answers docker's question for metadata, which
//! docker asks for every `docker help`, before it looks at anything else.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use buildfleet_shim::argv::Line;
use buildfleet_shim::docker::{self, Config};
use buildfleet_shim::environment::{Environment, Process};
use buildfleet_shim::plugin::{self, BY_DOCKER, METADATA, Plugin};
use buildfleet_shim::real::{NAME, Ourselves};
use buildfleet_shim::relay::{self, PROGRAM};
use buildfleet_shim::route::{Route, route};
use buildfleet_shim::{SHIM, load, runtime};

use self::known::Known;

mod known;

/// What a shell says of a program that it cannot find or cannot run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let Some(plugin) = Plugin::called(&argv0) else {
        eprintln!(
            "error: this program is called {}, and only knows itself as docker-buildfleet and docker-buildx",
            argv0.display()
        );
        return ExitCode::from(2);
    };
    // Without links, so that what lies beside the program is found.
    let own = std::env::current_exe().unwrap_or_default();
    let ourselves = Ourselves::called(&argv0, own, &Process);
    match plugin {
        Plugin::Buildfleet => match plugin::buildx_s(&args) {
            Some(args) => buildx(&ourselves, &argv0, &args),
            None => buildfleet(&ourselves.program, args),
        },
        Plugin::Buildx => buildx(&ourselves, &argv0, &args),
    }
}

fn buildfleet(own: &Path, args: Vec<OsString>) -> ExitCode {
    if asked_who(&args) {
        println!("{}", Plugin::Buildfleet.metadata(plugin::VERSION));
        return ExitCode::SUCCESS;
    }
    let Some(program) = relay::find_program(own, &Process) else { return no_program() };
    not_run(&program, &relay::to_program(&program, &plugin::buildfleet_s(args)))
}

fn buildx(ourselves: &Ourselves, argv0: &OsStr, args: &[OsString]) -> ExitCode {
    let shim = Process.var(SHIM);
    let mode = shim.as_deref().and_then(OsStr::to_str);
    if asked_who(args) && mode != Some("off") {
        let remembered = ourselves.remembered();
        let version = match (&remembered, mode) {
            (_, Some(NAME)) => Some(plugin::VERSION),
            (Some(remembered), _) if remembered.fits() => Some(remembered.version()),
            _ => None,
        };
        if let Some(version) = version {
            println!("{}", Plugin::Buildx.metadata(version));
            return ExitCode::SUCCESS;
        }
    }
    let by_docker = asked_who(args) || Process.var(BY_DOCKER).is_some();
    let line = if mode == Some("off") { None } else { Line::read(args, by_docker) };
    let globals = line.as_ref().map(|line| line.globals().clone()).unwrap_or_default();
    let real = || ourselves.find_real(&Process, &globals);
    if let Some(line) = &line {
        match routed(line) {
            Route::Relay => {}
            Route::Ours => {
                let Some(program) = relay::find_program(&ourselves.program, &Process) else { return no_program() };
                return not_run(&program, &relay::to_ours(&program, line, real().as_deref()));
            }
            Route::RelayTo(builder) => {
                if let Some(reason) = no_engine(line) {
                    eprintln!("ERROR: {reason}");
                    return ExitCode::FAILURE;
                }
                let program = relay::find_program(&ourselves.program, &Process);
                if let Err(reason) = relay::wake(&builder, program.as_deref()) {
                    eprintln!("warning: buildfleet: {reason}");
                }
            }
            Route::RelayWithNote => {
                eprintln!("info: buildfleet {} stands before docker buildx; {SHIM}=off goes past it", plugin::VERSION);
            }
        }
    }
    let Some(real) = real() else { return no_buildx(args) };
    not_run(&real, &relay::to_real(&real, argv0, args))
}

fn routed(line: &Line) -> Route {
    let variable = Process.var("BUILDX_BUILDER").map(|name| name.to_string_lossy().into_owned());
    // Without such a directory no daemon can run here, so no builder is ours; what would make one says so itself.
    let runtime_dir = runtime::runtime_dir(&Process).ok();
    route(line, variable.as_deref(), &Known::new(line.globals(), runtime_dir))
}

/// Why the end of the build could not be loaded.
fn no_engine(line: &Line) -> Option<String> {
    if !load::wants_engine(line.words()) {
        return None;
    }
    let dir = docker::config_dir(&Process, line.globals()).unwrap_or_default();
    let config = Config::read(dir.clone()).unwrap_or_else(|_| Config::without_file(dir));
    load::no_engine(&config.endpoint(&Process, line.globals()), relay::listens)
}

fn asked_who(args: &[OsString]) -> bool {
    args.first().is_some_and(|arg| arg == METADATA)
}

fn no_program() -> ExitCode {
    eprintln!("error: found no `{PROGRAM}` beside this plugin or on PATH");
    eprintln!("hint: install it beside the plugin, or add its directory to PATH");
    ExitCode::from(NOT_FOUND)
}

fn no_buildx(args: &[OsString]) -> ExitCode {
    if asked_who(args) {
        // docker says nothing of a plugin that does not answer, so it answers, and fails when it is called.
        println!("{}", Plugin::Buildx.metadata(plugin::VERSION));
        return ExitCode::SUCCESS;
    }
    eprintln!("error: found no docker-buildx besides buildfleet's own, which hands this command on to it");
    eprintln!(
        "hint: install docker's buildx, or set BUILDFLEET_BUILDX to its path; `buildfleet uninstall` takes the plugin away"
    );
    ExitCode::from(NOT_FOUND)
}

fn not_run(program: &Path, error: &std::io::Error) -> ExitCode {
    eprintln!("error: failed to run {}: {error}", program.display());
    ExitCode::from(NOT_RUN)
}
