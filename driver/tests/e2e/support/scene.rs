//! A private place for one test: directories, a daemon and docker's configuration of its own, and nothing left at the end.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::builder::Builder;
use super::call::Call;
use super::clock::seconds;
use super::contexts::Contexts;
use super::namespace::Namespace;
use super::processes;
use super::tools::{BUILDFLEET, Tools, cluster, tools};
use super::user::User;

/// How long a daemon may take to end. Its own deadline for a drain is shorter.
const END: Duration = seconds(20);

/// Held by every scene: shared by most, alone by those that measure.
static MACHINE: RwLock<()> = RwLock::new(());

/// Its fields are there to be dropped last.
#[derive(Debug)]
enum Share {
    /// Of a scene that stands beside one that has it.
    None,
    Some {
        _held: RwLockReadGuard<'static, ()>,
    },
    All {
        _held: RwLockWriteGuard<'static, ()>,
    },
}

/// Everything that one test touches.
#[derive(Debug)]
pub(crate) struct Scene {
    namespace: Option<Namespace>,
    user: Option<User>,
    dir: TempDir,
    contexts: OnceLock<Contexts>,
    environment: Vec<(&'static str, PathBuf)>,
    tools: &'static Tools,
    _share: Share,
}

impl Scene {
    /// Without a cluster.
    pub(crate) fn local() -> Self {
        // A test that failed has nevertheless ended.
        Self::with(Share::Some { _held: MACHINE.read().unwrap_or_else(PoisonError::into_inner) })
    }

    fn with(share: Share) -> Self {
        let tools = tools();
        // Sockets have short paths, so the system's directory, and no long name.
        let dir = tempfile::Builder::new().prefix("bf").tempdir_in("/tmp").expect("a directory of our own");
        let at = |name: &str| dir.path().join(name);
        for name in ["home", "state", "docker/cli-plugins"] {
            fs::create_dir_all(at(name)).expect("a directory of our own");
        }
        let path = std::env::var_os("PATH").expect("a PATH");
        let environment = vec![
            ("PATH", path.into()),
            ("HOME", at("home")),
            ("BUILDFLEET_RUNTIME_DIR", at("run")),
            ("XDG_STATE_HOME", at("state")),
            ("DOCKER_CONFIG", at("docker")),
            ("BUILDX_CONFIG", at("docker/buildx")),
            ("BUILDFLEET_LOG", "buildfleet=debug".into()),
            // The clients are Go programs that end soon: looking for garbage is in vain.
            ("GOGC", "400".into()),
        ];
        symlink(&tools.docker_buildx, at("docker/cli-plugins/docker-buildx")).expect("a directory of our own");
        Self { namespace: None, user: None, dir, contexts: OnceLock::new(), environment, tools, _share: share }
    }

    /// Without a cluster, and with all programs run by a user without privileges.
    pub(crate) fn unprivileged() -> Self {
        let mut scene = Self::local();
        let homes = ["home", "state", "docker", "docker/cli-plugins"].map(|name| scene.path(name));
        let user = User::make(scene.dir.path(), &homes);
        scene.set("PATH", user.path());
        scene.user = Some(user);
        scene
    }

    /// Who runs the programs of an unprivileged scene.
    pub(crate) fn user(&self) -> &User {
        self.user.as_ref().expect("an unprivileged scene")
    }

    /// With a namespace of the cluster.
    pub(crate) fn kube() -> Self {
        Self::local().in_cluster()
    }

    /// Another person's machine, with the same cluster and no namespace of its own.
    pub(crate) fn beside(other: &Self) -> Self {
        let mut scene = Self::with(Share::None);
        let known = other.environment.iter().filter(|(name, _)| *name == "KUBECONFIG").cloned();
        scene.environment.extend(known);
        scene
    }

    /// The same while no other test runs, for measurements.
    pub(crate) fn kube_alone() -> Self {
        Self::with(Share::All { _held: MACHINE.write().unwrap_or_else(PoisonError::into_inner) }).in_cluster()
    }

    fn in_cluster(self) -> Self {
        let kubeconfig = cluster().kubeconfig.clone();
        let mut scene = self;
        scene.namespace = Some(Namespace::make());
        scene.environment.push(("KUBECONFIG", kubeconfig));
        scene
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        self.namespace.as_ref().expect("a scene of the cluster")
    }

    /// Another namespace for the one of the scene.
    pub(crate) fn stand_in(&mut self, namespace: Namespace) {
        self.namespace = Some(namespace);
    }

    /// Another value for a variable of every program that is run from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<PathBuf>) {
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value.into()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("state/buildfleet")
    }

    pub(crate) fn contexts(&self) -> &Contexts {
        self.contexts.get_or_init(|| Contexts::make(self.path("contexts")))
    }

    fn call(&self, program: impl AsRef<OsStr>) -> Call {
        let call = match &self.user {
            Some(user) => user.run(program),
            None => Call::new(program),
        };
        let call = call.env_clear().dir(self.path("home"));
        self.environment.iter().fold(call, |call, (name, value)| call.env(name, value))
    }

    /// The program under test.
    pub(crate) fn buildfleet(&self, words: &str) -> Call {
        self.call(BUILDFLEET).words(words)
    }

    /// Stock buildx, as a plugin of the docker command line.
    pub(crate) fn buildx(&self, words: &str) -> Call {
        self.call(&self.tools.docker).arg("buildx").words(words)
    }

    pub(crate) fn buildctl(&self, words: &str) -> Call {
        self.call(&self.tools.buildctl).words(words)
    }

    /// Lines for a shell, with the programs on PATH, as a user would type them.
    pub(crate) fn shell(&self, lines: &str) -> Call {
        let mut path = Path::new(BUILDFLEET).parent().expect("a program is in a directory").as_os_str().to_owned();
        for (_, value) in self.environment.iter().filter(|(name, _)| *name == "PATH") {
            path.push(":");
            path.push(value);
        }
        self.call("/bin/sh").arg("-c").arg(lines).env("PATH", path)
    }

    /// `buildfleet create --name NAME WORDS`, which has to succeed.
    pub(crate) fn create(&self, name: &'static str, words: &str) -> Builder<'_> {
        self.buildfleet(&format!("create --name {name}")).words(words).succeeds();
        self.builder(name)
    }

    /// One that exists.
    pub(crate) fn builder(&self, name: &'static str) -> Builder<'_> {
        Builder::new(self, name)
    }

    /// What `ls` shows.
    pub(crate) fn builders(&self) -> Vec<serde_json::Value> {
        self.buildfleet("ls --format json").succeeds().json_lines()
    }

    /// The builders in buildx's store.
    pub(crate) fn buildx_builders(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("docker/buildx/instances")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Neither buildfleet nor buildx knows a builder.
    pub(crate) fn has_no_builder(&self) {
        assert_eq!(self.builders(), Vec::<serde_json::Value>::new());
        assert_eq!(self.buildx_builders(), Vec::<String>::new());
    }

    /// The daemon that runs.
    pub(crate) fn daemon_pid(&self) -> Option<i32> {
        let version = self.buildfleet("version --format json").end();
        if !version.is_success() {
            return None;
        }
        version.json()["Daemon"]["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }

    /// As a crash would: at once, and without a word.
    pub(crate) fn kill_daemon(&self) {
        let pid = self.daemon_pid().expect("a daemon runs");
        processes::kill_now(pid);
        processes::gone(pid, seconds(5));
    }

    /// Asks the daemon to end, and waits for it.
    pub(crate) fn end_daemon(&self) {
        if let Some(pid) = self.daemon_pid() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("the daemon runs");
            processes::gone(pid, END);
        }
    }

    /// All that this test has started and that still runs.
    pub(crate) fn processes(&self) -> Vec<processes::Process> {
        processes::of_directory(self.dir.path())
    }

    /// Waits until nothing runs that this test has started.
    pub(crate) fn no_process_is_left(&self) {
        let began = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(began.elapsed() < seconds(5), "processes are left: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn daemon_log(&self) -> String {
        fs::read_to_string(self.state_dir().join("daemon.log")).unwrap_or_default()
    }

    fn show(&self) {
        eprintln!("=== daemon's log\n{}=== end of it", self.daemon_log());
        if let Some(namespace) = &self.namespace {
            namespace.show();
        }
    }

    /// Without a panic, because one may be under way already.
    fn clear(&self) -> Vec<processes::Process> {
        // Asked for by its socket first, then by what the processes themselves say.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.end_daemon()));
        let left = self.processes();
        for process in &left {
            let _ = processes::try_kill(process.pid);
        }
        if ended.is_err() {
            eprintln!("the daemon did not end by itself");
        }
        unmount_below(self.dir.path());
        left
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            self.show();
        }
        let left = self.clear();
        assert!(failing || left.is_empty(), "the daemon's end leaves processes: {left:#?}\n{}", self.daemon_log());
    }
}

/// A `buildkitd` that was killed leaves the mounts of its steps, and a directory with mounts cannot be removed.
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| Path::new(path).starts_with(dir));
    for path in below.collect::<Vec<_>>().into_iter().rev() {
        let _ = Call::new("umount").arg("-l").arg(path).end();
    }
}
