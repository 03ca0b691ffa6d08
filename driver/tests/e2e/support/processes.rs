//! Who runs on this machine: what a test started, it has to end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clock::wait_for;

/// A process as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its arguments, joined by spaces.
    pub(crate) command: String,
}

impl Process {
    /// Whether it runs the program of this name, wherever that is.
    pub(crate) fn is_program(&self, name: &str) -> bool {
        self.command.split(' ').next().and_then(|path| path.rsplit('/').next()) == Some(name)
    }

    /// Whether one of its control groups has this in its name, as those of a pod have its uid.
    pub(crate) fn is_in_group(&self, name: &str) -> bool {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
        groups.contains(name)
    }
}

/// Those that name `dir` in their arguments, environment or working directory: what a test started, however far down.
pub(crate) fn of_directory(dir: &Path) -> Vec<Process> {
    let needle = dir.to_str().expect("a path in UTF-8");
    all(|proc| {
        let names =
            |file: &str| fs::read(proc.join(file)).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(needle));
        names("cmdline") || names("environ") || fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
    })
}

/// Those whose arguments have this in them.
pub(crate) fn that_run(words: &str) -> Vec<Process> {
    all(|proc| command_of(proc).contains(words))
}

pub(crate) fn is_alive(pid: i32) -> bool {
    all(|proc| proc.ends_with(pid.to_string())).len() == 1
}

pub(crate) fn kill_now(pid: i32) {
    try_kill(pid).unwrap_or_else(|error| panic!("cannot kill {pid}: {error}"));
}

/// Fails for one that has ended.
pub(crate) fn try_kill(pid: i32) -> nix::Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGKILL)
}

pub(crate) fn gone(pid: i32, limit: Duration) {
    wait_for(&format!("the end of process {pid}"), limit, || (!is_alive(pid)).then_some(()));
}

/// Zombies do not count: their parent is to blame for them, and they do nothing.
fn all(mut wanted: impl FnMut(&Path) -> bool) -> Vec<Process> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str().filter(|name| *name != own)?;
            let pid = name.parse().ok()?;
            let proc = entry.path();
            let stat = fs::read_to_string(proc.join("stat")).ok()?;
            let zombie = stat.rsplit(") ").next()?.starts_with('Z');
            (!zombie && wanted(&proc)).then(|| Process { pid, command: command_of(&proc) })
        })
        .collect()
}

fn command_of(proc: &Path) -> String {
    let bytes = fs::read(proc.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
}
