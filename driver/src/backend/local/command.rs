//! The command lines of `buildkitd`: pure.

use std::ffi::OsString;
use std::path::Path;

use super::machine::{Launch, Programs};
use super::places::Places;

/// Variables that speak to the daemon alone. `buildkitd` would tell systemd that it is ready, and take sockets over.
pub(super) const NOT_INHERITED: [&str; 6] =
    ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Flags whose values are the local driver's: other ones would put two pods into one place, or files where `rm` does not
/// look.
const OURS: [&str; 1] = ["root"];

/// A flag that the user may not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("buildkitd flag `--{0}` is set by the local driver and can't be given")]
pub(super) struct FlagError(&'static str);

/// Refuses flags that would break what the driver promises.
pub(super) fn check_flags(flags: &[String]) -> Result<(), FlagError> {
    match OURS.into_iter().find(|name| flag_value(flags, name).is_some()) {
        Some(name) => Err(FlagError(name)),
        None => Ok(()),
    }
}

/// The value of a flag, spelled `--name value` or `--name=value`, with one dash or two; the last one wins. A flag at the
/// end of the line has an empty value.
pub(super) fn flag_value<'a>(flags: &'a [String], name: &str) -> Option<&'a str> {
    let mut found = None;
    for (i, flag) in flags.iter().enumerate() {
        let Some(flag) = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')) else { continue };
        match flag.split_once('=') {
            Some((given, value)) if given == name => found = Some(value),
            None if flag == name => found = Some(flags.get(i + 1).map_or("", String::as_str)),
            _ => {}
        }
    }
    found
}

/// Everything from our own `supervise-child` on. `parent` is the daemon's process.
pub(super) fn command_line(
    launch: &Launch,
    places: &Places,
    flags: &[String],
    supervise: &[OsString],
    parent: u32,
) -> Vec<OsString> {
    let mut line = supervise.to_vec();
    line.extend(["--parent".into(), parent.to_string().into(), "--".into()]);
    let programs = match launch {
        Launch::Root { unshare, programs } => {
            // As the first process of its own namespace, buildkitd takes every RUN step with it however it ends, and all
            // of its mounts vanish: nothing is left that would keep a state directory busy.
            line.push(unshare.into());
            line.extend(
                ["--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"]
                    .map(OsString::from),
            );
            programs
        }
        Launch::Rootless { rootlesskit, programs } => {
            line.push(rootlesskit.into());
            line.extend(["--net=host", "--copy-up=/etc"].map(OsString::from));
            // The same for RUN steps, where /proc may be mounted at all: who switches the process sandbox off says it
            // may not.
            if flag_value(flags, "oci-worker-no-process-sandbox").is_none() {
                line.push("--pidns".into());
            }
            line.push(joined("--state-dir=", &places.kit));
            programs
        }
    };
    buildkitd(&mut line, programs, places, flags);
    line
}

fn buildkitd(line: &mut Vec<OsString>, programs: &Programs, places: &Places, flags: &[String]) {
    line.push((&programs.buildkitd).into());
    let mut flag = |name: &str, value: OsString| line.extend([OsString::from(format!("--{name}")), value]);
    flag("root", (&places.root).into());
    flag("addr", joined("unix://", &places.socket));
    flag("otel-socket-path", (&places.trace_socket).into());
    // What the machine has in /etc/buildkit, and its containerd, are meant for other daemons: nothing of it is used
    // unless the user asks for it.
    let mut unless_given = |name: &str, value: OsString| {
        if flag_value(flags, name).is_none() {
            flag(name, value);
        }
    };
    unless_given("config", "/dev/null".into());
    unless_given("oci-worker", "true".into());
    unless_given("containerd-worker", "false".into());
    unless_given("oci-cni-config-path", places.state.join("cni.json").into());
    // BuildKit's default less /etc/buildkit/cdi.
    unless_given("cdi-spec-dir", "/etc/cdi".into());
    unless_given("cdi-spec-dir", "/var/run/cdi".into());
    if let Some(runtime) = &programs.runtime {
        unless_given("oci-worker-binary", runtime.into());
    }
    line.extend(flags.iter().map(OsString::from));
}

/// What removes directories that belong to ids of the user namespace.
pub(super) fn removal(rootlesskit: &Path, directory: &Path) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![rootlesskit.into()];
    line.extend(["rm", "-rf", "--"].map(OsString::from));
    line.push(directory.into());
    line
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut word = OsString::from(prefix);
    word.push(path);
    word
}

#[cfg(test)]
#[path = "command/tests.rs"]
mod tests;
