//! A private place for one test: a copy of the plugin, docker's configuration, and stand-ins for what it calls.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use buildfleet_shim::real::{FILE, Remembered};
use nix::sys::socket::{Shutdown, shutdown};
use tempfile::TempDir;

const PLUGIN: &str = env!("CARGO_BIN_EXE_docker-buildfleet");

const LIMIT: Duration = Duration::from_secs(30);

/// A program that is started inherits, until it runs, what other threads have open: what is open for writing cannot be
/// started.
static WRITES_OR_STARTS: Mutex<()> = Mutex::new(());

/// Says who it is, then its arguments and its environment as they came.
const SAY: &str = "printf '<%s>\\n' \"$@\"\ntr '\\0' '\\n' < /proc/$$/environ\n";

#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    environment: Vec<(String, OsString)>,
}

impl Place {
    /// Nothing but the plugin's program and `buildfleet`, which ends with 7.
    pub(crate) fn bare() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["bin", "docker/cli-plugins", "docker/buildx/instances", "run"] {
            fs::create_dir_all(at(name)).expect("ours");
        }
        let environment = [
            ("PATH", "/usr/bin:/bin".into()),
            ("DOCKER_CONFIG", at("docker").into_os_string()),
            ("BUILDFLEET_RUNTIME_DIR", at("run").into_os_string()),
        ];
        let place = Self { dir, environment: environment.map(|(name, value)| (name.to_owned(), value)).into() };
        place.copy_of_the_plugin("bin/docker-buildfleet");
        place.script("bin/buildfleet", &format!("echo buildfleet\n{SAY}exit 7"));
        place
    }

    /// With a real buildx in the directory of all users' plugins, so to speak, which ends with 9.
    pub(crate) fn with_real() -> Self {
        let place = Self::bare();
        place.real("real/docker-buildx", "v9.9.9");
        place.link("docker/cli-plugins/docker-buildx");
        place.remember("docker/cli-plugins", "real/docker-buildx", "v9.9.9");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.into()));
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(other, _)| other != name);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let _alone = WRITES_OR_STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(path.parent().expect("it is below")).expect("ours");
        fs::write(path, text).expect("ours");
    }

    pub(crate) fn script(&self, name: &str, lines: &str) {
        self.write(name, &format!("#!/bin/sh\n{lines}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("ours");
    }

    /// What says that it is docker's buildx.
    pub(crate) fn real(&self, name: &str, version: &str) {
        let metadata = format!(r#"{{"SchemaVersion":"0.1.0","Vendor":"Docker Inc.","Version":"{version}"}}"#);
        let who = format!("if [ \"$1\" = docker-cli-plugin-metadata ]; then echo '{metadata}'; exit; fi");
        self.script(name, &format!("{who}\necho {name}\n{SAY}exit 9"));
    }

    pub(crate) fn copy_of_the_plugin(&self, name: &str) {
        let path = self.path(name);
        let _alone = WRITES_OR_STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(path.parent().expect("it is below")).expect("ours");
        fs::copy(PLUGIN, path).expect("the plugin was built");
    }

    /// A link to the plugin's program.
    pub(crate) fn link(&self, name: &str) {
        symlink(self.path("bin/docker-buildfleet"), self.path(name)).expect("ours");
    }

    /// What `buildfleet install` writes.
    pub(crate) fn remember(&self, dir: &str, real: &str, version: &str) {
        let remembered = Remembered::of(&self.path(real), version).expect("it is there");
        self.write(&format!("{dir}/{FILE}"), &remembered.to_json().expect("text"));
    }

    /// A builder in buildx's store, with a socket of ours when the driver is `remote`.
    pub(crate) fn builder(&self, name: &str, driver: &str) {
        let run = self.path("run");
        let text = format!(
            r#"{{"Name":"{name}","Driver":"{driver}","Nodes":[{{"Name":"{name}0","Endpoint":"unix://{}/nodes/{name}0.sock"}}]}}"#,
            run.display()
        );
        self.write(&format!("docker/buildx/instances/{name}"), &text);
    }

    /// Runs a program of this place.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = A>) -> Said {
        let mut command = Command::new(self.path(program));
        command.args(args).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        Said::of(start(command))
    }

    /// Runs the plugin as a program of its own: `words` are buildx's.
    pub(crate) fn buildx(&self, words: &str) -> Said {
        self.run("docker/cli-plugins/docker-buildx", words.split_whitespace())
    }
}

/// Its output is caught.
pub(crate) fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let _alone = WRITES_OR_STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().expect("it can be started")
}

/// For good: a program that another test starts has it, too, for a moment longer than the call that starts it, and until then
/// it would take connections (Linux wakes the caller of vfork before it closes files).
pub(crate) fn close(socket: UnixListener) {
    shutdown(socket.as_raw_fd(), Shutdown::Both).expect("it is open");
    drop(socket);
}

/// What a program has said.
#[derive(Debug)]
pub(crate) struct Said(pub(crate) Output);

impl Said {
    /// A program that calls itself would never end.
    pub(crate) fn of(mut child: Child) -> Self {
        let began = Instant::now();
        // What it says fits into a pipe.
        while child.try_wait().expect("it is ours").is_none() {
            if began.elapsed() > LIMIT {
                child.kill().expect("it is ours");
                panic!("it does not end: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Self(child.wait_with_output().expect("it has ended"))
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    /// Who was called: a script's name.
    pub(crate) fn who(&self) -> String {
        self.stdout().lines().next().unwrap_or_default().to_owned()
    }

    /// What the script was called with.
    pub(crate) fn words(&self) -> Vec<String> {
        let stdout = self.stdout();
        let words = stdout.lines().skip(1).take_while(|line| line.starts_with('<'));
        words.map(|line| line.trim_matches(['<', '>']).to_owned()).collect()
    }

    /// The environment that the script got, sorted.
    pub(crate) fn environment(&self) -> Vec<String> {
        let stdout = self.stdout();
        let mut lines: Vec<String> =
            stdout.lines().skip(1).skip_while(|line| line.starts_with('<')).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    pub(crate) fn has(&self, variable: &str) -> bool {
        self.environment().iter().any(|line| line == variable)
    }
}
