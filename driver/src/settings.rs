//! The environment, read once: where sockets and state live, and what the user's shell says. Nothing else reads
//! environment variables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use buildfleet_shim::environment::is_executable;
pub use buildfleet_shim::environment::{Environment, Process};
use buildfleet_shim::runtime::{self, RuntimeDirError};

use crate::builder::{BuilderName, NodeName};

/// A socket's path has to be shorter than this, its final NUL included: macOS has 104 bytes, Linux 108.
pub const SOCKET_PATH_MAX: usize = 104;

const RUNTIME_DIR: &str = runtime::VARIABLE;
const STATE_DIR: &str = "BUILDFLEET_STATE_DIR";
const LOG_FORMAT: &str = "BUILDFLEET_LOG_FORMAT";

/// Why the environment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{variable} has to be an absolute path, got `{}`", value.display())]
    Relative { variable: &'static str, value: PathBuf },
    #[error(transparent)]
    RuntimeDir(RuntimeDirError),
    #[error("found no directory for state: none of {STATE_DIR}, XDG_STATE_HOME and HOME is set")]
    NoStateDir,
    #[error("{LOG_FORMAT} is `{0}`: accepted are text and json")]
    LogFormat(String),
    #[error(transparent)]
    SocketPath(SocketPathError),
}

/// A socket's path that the system would cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "socket path {} has {length} bytes, at most {} can be bound: set {RUNTIME_DIR} to a shorter directory",
    path.display(),
    SOCKET_PATH_MAX - 1
)]
pub struct SocketPathError {
    path: PathBuf,
    length: usize,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What buildfleet takes from its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    runtime_dir: PathBuf,
    state_dir: PathBuf,
    kubeconfig: Vec<PathBuf>,
    kubernetes_service: Option<String>,
    search_path: Vec<PathBuf>,
    builder: Option<String>,
    no_color: bool,
    log_filter: Option<String>,
    log_format: LogFormat,
}

impl Settings {
    /// Reads `environment`, which is [`Process`] outside tests.
    ///
    /// # Errors
    /// When a directory cannot be told or a variable's value is not accepted.
    pub fn read(environment: &impl Environment) -> Result<Self, SettingsError> {
        let text = |name| environment.var(name).map(|value: OsString| value.to_string_lossy().into_owned());
        let settings = Self {
            runtime_dir: runtime::runtime_dir(environment).map_err(SettingsError::RuntimeDir)?,
            state_dir: state_dir(environment)?,
            kubeconfig: kubeconfig(environment),
            kubernetes_service: kubernetes_service(environment),
            search_path: environment
                .var("PATH")
                .map(|path| std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect())
                .unwrap_or_default(),
            builder: text("BUILDFLEET_BUILDER"),
            no_color: environment.var("NO_COLOR").is_some(),
            log_filter: text("BUILDFLEET_LOG"),
            log_format: match text(LOG_FORMAT).as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(other) => return Err(SettingsError::LogFormat(other.to_owned())),
            },
        };
        bindable(settings.control_socket()).map_err(SettingsError::SocketPath)?;
        Ok(settings)
    }

    /// Sockets, and nothing that outlives a reboot.
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// Builders and what is known of them.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Where the daemon's API is served.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("daemon.sock")
    }

    /// Held by the one daemon of this runtime directory.
    pub fn daemon_lock(&self) -> PathBuf {
        self.runtime_dir.join("daemon.lock")
    }

    /// The variables that make a daemon started from here use the same directories.
    pub fn for_child(&self) -> [(&'static str, &Path); 2] {
        [(RUNTIME_DIR, &self.runtime_dir), (STATE_DIR, &self.state_dir)]
    }

    /// What a daemon that was started on demand writes.
    pub fn daemon_log(&self) -> PathBuf {
        self.state_dir.join("daemon.log")
    }

    /// Where clients reach a builder. Builders and nodes have directories of their own, so no two names collide.
    ///
    /// # Errors
    /// When the path is too long to be bound.
    pub fn builder_socket(&self, builder: &BuilderName) -> Result<PathBuf, SocketPathError> {
        bindable(self.runtime_dir.join("builders").join(format!("{builder}.sock")))
    }

    /// Where clients reach one node.
    ///
    /// # Errors
    /// When the path is too long to be bound.
    pub fn node_socket(&self, node: &NodeName) -> Result<PathBuf, SocketPathError> {
        bindable(self.runtime_dir.join("nodes").join(format!("{node}.sock")))
    }

    /// Where the local backend keeps the state of a node's processes.
    pub fn local_state(&self, node: &NodeName) -> PathBuf {
        self.state_dir.join("local").join(node.as_str())
    }

    /// Where the local backend keeps the sockets of a node's processes.
    pub fn local_run(&self, node: &NodeName) -> PathBuf {
        self.runtime_dir.join("local").join(node.as_str())
    }

    /// Absolute paths in the order of `$KUBECONFIG`, else `~/.kube/config` when it exists; empty: in-cluster configuration.
    pub fn kubeconfig(&self) -> &[PathBuf] {
        &self.kubeconfig
    }

    /// The API server of the cluster that this process is a pod of, as a URL.
    pub fn kubernetes_service(&self) -> Option<&str> {
        self.kubernetes_service.as_deref()
    }

    /// The first file on PATH that is called `program`.
    pub fn find_program(&self, program: &str) -> Option<PathBuf> {
        self.search_path.iter().map(|dir| dir.join(program)).find(|file| is_executable(file))
    }

    /// `$BUILDFLEET_BUILDER`: the builder to use instead of the current one.
    pub fn builder(&self) -> Option<&str> {
        self.builder.as_deref()
    }

    /// Whether `$NO_COLOR` is set (<https://no-color.org>).
    pub fn no_color(&self) -> bool {
        self.no_color
    }

    /// `$BUILDFLEET_LOG`: which log lines are wanted, as in `info,buildfleet::proxy=debug`.
    pub fn log_filter(&self) -> Option<&str> {
        self.log_filter.as_deref()
    }

    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }
}

fn bindable(path: PathBuf) -> Result<PathBuf, SocketPathError> {
    let length = path.as_os_str().len();
    if length < SOCKET_PATH_MAX { Ok(path) } else { Err(SocketPathError { path, length }) }
}

fn state_dir(environment: &impl Environment) -> Result<PathBuf, SettingsError> {
    if let Some(given) = absolute(environment, STATE_DIR)? {
        return Ok(given);
    }
    if let Some(xdg) = xdg(environment, "XDG_STATE_HOME") {
        return Ok(xdg.join("buildfleet"));
    }
    match absolute(environment, "HOME")? {
        Some(home) => Ok(home.join(".local/state/buildfleet")),
        None => Err(SettingsError::NoStateDir),
    }
}

fn kubeconfig(environment: &impl Environment) -> Vec<PathBuf> {
    if let Some(list) = environment.var("KUBECONFIG") {
        let here = environment.current_dir().unwrap_or_else(|| PathBuf::from("/"));
        return std::env::split_paths(&list)
            .filter(|path| !path.as_os_str().is_empty())
            .map(|path| here.join(path))
            .collect();
    }
    let default = environment.var("HOME").map(|home| Path::new(&home).join(".kube/config"));
    default.filter(|path| path.is_absolute() && environment.exists(path)).into_iter().collect()
}

/// Kubernetes sets both in every container.
fn kubernetes_service(environment: &impl Environment) -> Option<String> {
    let host = environment.var("KUBERNETES_SERVICE_HOST")?.to_string_lossy().into_owned();
    let port = environment.var("KUBERNETES_SERVICE_PORT")?.to_string_lossy().into_owned();
    // An IPv6 address stands bare in the variable, and in brackets in a URL.
    Some(if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") })
}

fn absolute(environment: &impl Environment, variable: &'static str) -> Result<Option<PathBuf>, SettingsError> {
    match environment.var(variable).map(PathBuf::from) {
        Some(value) if value.is_relative() => Err(SettingsError::Relative { variable, value }),
        value => Ok(value),
    }
}

/// The XDG specification has relative paths ignored.
fn xdg(environment: &impl Environment, variable: &str) -> Option<PathBuf> {
    environment.var(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests;
