//! Becomes another program: the real buildx as if nobody stood before it, or `buildfleet`.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::argv::Line;
use crate::environment::{Environment, is_executable, on_path};
use crate::store::Instance;
use crate::{bounded, real};

/// The program that does the work.
pub const PROGRAM: &str = "buildfleet";

/// Its hidden command, which speaks as buildx does.
const AS_BUILDX: &str = "buildx";

/// How long the daemon may take to start.
const START: Duration = Duration::from_secs(15);

/// `buildfleet`, beside this program or on PATH.
pub fn find_program(own: &Path, environment: &impl Environment) -> Option<PathBuf> {
    let beside = own.parent().map(|dir| dir.join(PROGRAM)).filter(|file| is_executable(file));
    beside.or_else(|| on_path(environment, OsStr::new(PROGRAM)))
}

/// Only comes back when it failed.
#[must_use]
pub fn to_real(buildx: &Path, argv0: &OsStr, args: &[OsString]) -> std::io::Error {
    Command::new(buildx).arg0(argv0).args(args).exec()
}

/// Only comes back when it failed.
#[must_use]
pub fn to_program(program: &Path, args: &[OsString]) -> std::io::Error {
    Command::new(program).args(args).exec()
}

/// Only comes back when it failed. What docker's flags say goes into the environment, where it wins as they do.
#[must_use]
pub fn to_ours(program: &Path, line: &Line, buildx: Option<&Path>) -> std::io::Error {
    let mut command = Command::new(program);
    command.arg(AS_BUILDX).args(line.words());
    if let Some(buildx) = buildx {
        command.env(real::VARIABLE, buildx);
    }
    let globals = line.globals();
    if let Some(config) = &globals.config {
        command.env("DOCKER_CONFIG", config);
    }
    if let Some(context) = globals.context.as_ref().filter(|context| !context.is_empty()) {
        command.env("DOCKER_CONTEXT", context).env_remove("DOCKER_HOST");
    } else if let Some(host) = &globals.host {
        command.env("DOCKER_HOST", host);
    }
    command.exec()
}

/// Makes sure that the daemon answers for a builder of ours.
///
/// # Errors
/// With the reason in words, when it does not and cannot be started.
pub fn wake(builder: &Instance, program: Option<&Path>) -> Result<(), String> {
    if builder.sockets().all(listens) {
        return Ok(());
    }
    let program = program.ok_or_else(|| format!("found no `{PROGRAM}` to start the daemon with"))?;
    // It starts the daemon, asks it for the builder, and prints what nobody wants here.
    let mut command = Command::new(program);
    command.args(["socket", builder.name.as_str()]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("failed to run {}: {error}", program.display()))?;
    match bounded::wait(&mut child, START) {
        Ok(Some(status)) if status.success() => Ok(()),
        // It has said why on stderr.
        Ok(Some(_)) => Err(format!("the daemon does not serve builder {}", builder.name)),
        Ok(None) => Err(format!("the daemon did not start within {} s", START.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether somebody holds this end. One whose queue is full does: nothing is waited for here.
pub fn listens(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(near) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return false };
    let Ok(address) = UnixAddr::new(path) else { return false };
    matches!(connect(near.as_raw_fd(), &address), Ok(()) | Err(Errno::EAGAIN))
}
