//! What this machine offers to run `buildkitd` with: programs, user namespaces, and who the daemon is.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::child::SUBCOMMAND;
use super::command::flag_value;
use crate::backend::ApplyError;
use crate::options::LocalOptions;

/// A version that `go install` builds; the rig of this repository is pinned to the same.
const BUILDKIT_VERSION: &str = "v0.33.1";

/// Debian keeps runc, and programs that `buildkitd` calls, in directories that are on no user's PATH.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// This machine as the local driver sees it.
#[derive(Debug, Clone)]
pub struct Machine {
    path: Vec<PathBuf>,
    root: bool,
    uid: u32,
    user: Option<String>,
    /// Where /proc and /etc are.
    files: PathBuf,
    supervise: Vec<OsString>,
}

/// How `buildkitd` is run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Launch {
    /// In mount and process namespaces of its own, by `unshare` of util-linux.
    Root { unshare: PathBuf, programs: Programs },
    /// In a user namespace too.
    Rootless { rootlesskit: PathBuf, programs: Programs },
}

/// BuildKit's own programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) buildkitd: PathBuf,
    /// `None` when the flags of the node say what runs containers.
    pub(super) runtime: Option<PathBuf>,
    /// `PATH` of the process.
    pub(super) path: OsString,
}

/// Why `buildkitd` can't be run the wanted way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UserError {
    #[error("driver option `rootless=true` needs a daemon that does not run as root")]
    RootlessAsRoot,
    #[error("driver option `rootless=false` needs a daemon that runs as root, and it runs as uid {0}")]
    RootAsUser(u32),
    #[error(
        "user namespaces are switched off: {file} is 0, and `sysctl -w {sysctl}={wanted}` by root switches them on",
        file = file.display()
    )]
    Namespaces { file: PathBuf, sysctl: &'static str, wanted: u32 },
    #[error(
        "{file} gives no ids to {user}: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}` by root does",
        file = file.display()
    )]
    NoIds { file: PathBuf, user: String },
}

impl Machine {
    /// The machine and the user that this process runs on and as.
    pub fn this() -> Self {
        let uid = nix::unistd::geteuid();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut path: Vec<_> = std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
        path.extend(SYSTEM_DIRECTORIES.map(PathBuf::from));
        Self {
            path,
            root: uid.is_root(),
            uid: uid.as_raw(),
            user: nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name),
            files: PathBuf::from("/"),
            // The path of the program may name another file after an upgrade: this name stands for what runs now.
            supervise: vec![OsString::from("/proc/self/exe"), OsString::from(SUBCOMMAND)],
        }
    }

    /// The same machine with programs in these directories alone, and a daemon that says it is root or not.
    #[must_use]
    pub fn with_programs(mut self, path: Vec<PathBuf>, root: bool) -> Self {
        self.path = path;
        self.root = root;
        self
    }

    /// The same machine, where `supervise` is run in place of `/proc/self/exe supervise-child`.
    #[must_use]
    pub fn with_supervise(mut self, supervise: Vec<OsString>) -> Self {
        self.supervise = supervise;
        self
    }

    pub(super) fn supervise(&self) -> &[OsString] {
        &self.supervise
    }

    /// The programs and the way to run them, or what is missing.
    pub(super) fn launch(&self, options: &LocalOptions, flags: &[String]) -> Result<Launch, ApplyError> {
        let refused = |error: UserError| ApplyError::Refused {
            verb: "run",
            object: "buildkitd".to_owned(),
            source: Box::new(error),
        };
        let rootless = match (options.rootless, self.root) {
            (Some(true), true) => return Err(refused(UserError::RootlessAsRoot)),
            (Some(false), false) => return Err(refused(UserError::RootAsUser(self.uid))),
            (_, root) => !root,
        };
        let programs = self.programs(options, flags)?;
        if !rootless {
            return Ok(Launch::Root { unshare: self.needed("unshare", &debian("util-linux"))?, programs });
        }
        let rootlesskit = self.needed("rootlesskit", &debian("rootlesskit"))?;
        for program in ["newuidmap", "newgidmap"] {
            self.needed(program, &debian("uidmap"))?;
        }
        self.check_namespaces().map_err(refused)?;
        Ok(Launch::Rootless { rootlesskit, programs })
    }

    fn programs(&self, options: &LocalOptions, flags: &[String]) -> Result<Programs, ApplyError> {
        let buildkitd = match &options.buildkitd {
            Some(path) if path.is_absolute() && is_program(path) => path.clone(),
            Some(path) => {
                let hint = format!(
                    "driver option `buildkitd` has to be the absolute path of a program, got {}",
                    path.display()
                );
                return Err(ApplyError::Missing { program: "buildkitd", hint });
            }
            None => self.needed("buildkitd", &buildkitd_hint())?,
        };
        // BuildKit's release has its runtime beside its daemon.
        let beside = buildkitd.parent().map(Path::to_owned);
        let path: Vec<PathBuf> = beside.into_iter().chain(self.path.iter().cloned()).collect();
        let told = flag_value(flags, "oci-worker-binary").is_some() || flag_value(flags, "oci-worker") == Some("false");
        let runtime = match ["buildkit-runc", "runc"].into_iter().find_map(|program| find(&path, program)) {
            _ if told => None,
            Some(runtime) => Some(runtime),
            None => return Err(ApplyError::Missing { program: "runc", hint: runc_hint() }),
        };
        // A directory with `:` in its name cannot be on a PATH: nothing could have been found there either.
        let path = std::env::join_paths(path.iter().filter(|path| !path.as_os_str().to_string_lossy().contains(':')));
        Ok(Programs { buildkitd, runtime, path: path.unwrap_or_default() })
    }

    fn needed(&self, program: &'static str, hint: &str) -> Result<PathBuf, ApplyError> {
        find(&self.path, program).ok_or_else(|| ApplyError::Missing { program, hint: hint.to_owned() })
    }

    fn check_namespaces(&self) -> Result<(), UserError> {
        for (sysctl, wanted) in [("kernel.unprivileged_userns_clone", 1), ("user.max_user_namespaces", 63359)] {
            let file = self.files.join("proc/sys").join(sysctl.replace('.', "/"));
            // Not every kernel has both.
            if std::fs::read_to_string(&file).is_ok_and(|value| value.trim() == "0") {
                return Err(UserError::Namespaces { file, sysctl, wanted });
            }
        }
        for name in ["etc/subuid", "etc/subgid"] {
            let file = self.files.join(name);
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let uid = self.uid.to_string();
            let mut owners = text.lines().filter_map(|line| line.split(':').next());
            if !owners.any(|owner| owner == uid || Some(owner) == self.user.as_deref()) {
                return Err(UserError::NoIds { file, user: self.user.clone().unwrap_or(uid) });
            }
        }
        Ok(())
    }

    /// What may keep a user namespace from being of use although it can be made: for the story of a pod that fails.
    pub(super) fn namespace_suspect(&self) -> Option<String> {
        let file = self.files.join("proc/sys/kernel/apparmor_restrict_unprivileged_userns");
        let restricted = std::fs::read_to_string(&file).is_ok_and(|value| value.trim() == "1");
        restricted.then(|| {
            format!(
                "{} is 1: without an AppArmor profile that grants `userns` to rootlesskit, it may not use user namespaces",
                file.display()
            )
        })
    }

    pub(super) fn rootlesskit(&self) -> Option<PathBuf> {
        find(&self.path, "rootlesskit")
    }

    /// The release of the kernel; empty where it is not known.
    pub(super) fn kernel(&self) -> String {
        std::fs::read_to_string(self.files.join("proc/sys/kernel/osrelease")).unwrap_or_default()
    }

    pub(super) fn host_name(&self) -> Option<String> {
        let name = std::fs::read_to_string(self.files.join("proc/sys/kernel/hostname")).ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }
}

fn find(path: &[PathBuf], program: &str) -> Option<PathBuf> {
    path.iter().map(|directory| directory.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn debian(package: &str) -> String {
    format!("on Debian and Ubuntu, `apt-get install {package}` installs it")
}

fn buildkitd_hint() -> String {
    format!(
        "install the release archive of BuildKit from https://github.com/moby/buildkit/releases, or run \
         `go install github.com/moby/buildkit/cmd/buildkitd@{BUILDKIT_VERSION}`, or in a checkout of buildfleet \
         `scripts/cluster build buildkit runc`; then put it on the PATH of the daemon, or name it by the driver option \
         `buildkitd=/path/to/buildkitd`"
    )
}

fn runc_hint() -> String {
    "the release archive of BuildKit holds it as `buildkit-runc`, beside `buildkitd`; on Debian and Ubuntu, `apt-get \
     install runc` installs it; in a checkout of buildfleet, `scripts/cluster build runc` builds it"
        .to_owned()
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
