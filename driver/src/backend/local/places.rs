//! Where the files of one local pod are: pure.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::builder::{NameError, NodeName, PodName};

/// `sun_path` has 108 bytes on Linux and 104 on other systems, the closing zero included.
const SOCKET_PATH_MAX: usize = 103;

/// The files of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) pod: PodName,
    /// All that outlives the process.
    pub(super) state: PathBuf,
    /// `buildkitd --root`.
    pub(super) root: PathBuf,
    pub(super) log: PathBuf,
    /// The directory of the sockets of all pods of the node.
    pub(super) sockets: PathBuf,
    pub(super) socket: PathBuf,
    /// `buildkitd`'s collector of traces, which has one fixed path for all processes unless it is told.
    pub(super) trace_socket: PathBuf,
    /// What has to be gone before the next process starts: its `XDG_RUNTIME_DIR`.
    pub(super) scratch: PathBuf,
    /// rootlesskit's own state, in there.
    pub(super) kit: PathBuf,
}

/// A socket in a directory whose path is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "socket path {} has {} bytes, and the kernel takes at most {SOCKET_PATH_MAX}: set BUILDFLEET_RUNTIME_DIR to a shorter path",
    .0.display(), .0.as_os_str().len()
)]
pub(super) struct SocketPathError(PathBuf);

/// The name of pod number `index`.
pub(super) fn pod_name(node: &NodeName, index: u32) -> Result<PodName, NameError> {
    format!("{node}-{index}").parse()
}

/// The number of the pod named so, when it may be one of this node.
pub(super) fn index_of(node: &NodeName, pod: &PodName) -> Option<u32> {
    let number = pod.as_str().strip_prefix(node.as_str())?.strip_prefix('-')?;
    let index = number.parse::<u32>().ok()?;
    // `+1` and `01` parse, but no pod is named so, and no path may be.
    (index.to_string() == number).then_some(index)
}

impl Places {
    /// Pod number `index` of the node that has the directories `state` and `run` to itself.
    pub(super) fn new(pod: PodName, index: u32, state: &Path, run: &Path) -> Self {
        let state = state.join(index.to_string());
        // Short: the kernel bounds the paths of sockets.
        let beside = |suffix: &str| run.join(format!("{index}.{suffix}"));
        Self {
            root: state.join("root"),
            log: state.join("buildkitd.log"),
            state,
            socket: beside("sock"),
            trace_socket: beside("otel"),
            kit: beside("run").join("kit"),
            scratch: beside("run"),
            sockets: run.to_owned(),
            pod,
        }
    }

    pub(super) fn check_lengths(&self, rootless: bool) -> Result<(), SocketPathError> {
        // rootlesskit has its own socket below `kit`.
        let longest = if rootless { self.kit.join("api.sock") } else { self.socket.clone() };
        if longest.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
            return Err(SocketPathError(longest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        "lap".parse().unwrap()
    }

    fn places(run: &str) -> Places {
        Places::new(pod_name(&node(), 1).unwrap(), 1, Path::new("/state/lap"), Path::new(run))
    }

    #[test]
    fn a_pod_has_its_own_state_and_socket() {
        let places = places("/run/buildfleet/lap");
        assert_eq!(places.root, Path::new("/state/lap/1/root"));
        assert_eq!(places.log, Path::new("/state/lap/1/buildkitd.log"));
        assert_eq!(places.socket, Path::new("/run/buildfleet/lap/1.sock"));
        assert_eq!(places.trace_socket, Path::new("/run/buildfleet/lap/1.otel"));
        assert_eq!(places.kit, Path::new("/run/buildfleet/lap/1.run/kit"));
        assert!(places.kit.starts_with(&places.scratch));
    }

    #[test]
    fn only_names_that_a_pod_of_the_node_can_have_are_known() {
        for (name, index) in [
            ("lap-0", Some(0)),
            ("lap-12", Some(12)),
            ("lap", None),
            ("lap-", None),
            ("lap-01", None),
            ("lap-+1", None),
            ("lap--1", None),
            ("lap-1-0", None),
            ("lap0-1", None),
            ("lap-4294967296", None),
            ("lap-/../../x", None),
        ] {
            assert_eq!(index_of(&node(), &name.parse().unwrap()), index, "{name}");
        }
    }

    #[test]
    fn a_socket_path_that_the_kernel_would_refuse_is_refused_before() {
        // "/1.sock" has 7 bytes, "/1.run/kit/api.sock" has 19.
        let fits = |length: usize, rootless| places(&format!("/{}", "r".repeat(length - 1))).check_lengths(rootless);
        assert_eq!(fits(96, false), Ok(()));
        assert!(fits(97, false).is_err());
        assert_eq!(fits(84, true), Ok(()));
        let error = fits(85, true).unwrap_err().to_string();
        assert!(error.contains("/1.run/kit/api.sock has 104 bytes") && error.contains("at most 103"), "{error}");
    }
}
