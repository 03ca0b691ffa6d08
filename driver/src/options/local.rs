//! Options of the `local` driver.

use std::path::PathBuf;
use std::time::Duration;

use super::LoadBalance;
use super::table::{Entry, OptionKey, Read};
use super::value;

/// Options of the `local` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    pub(crate) replicas: u32,
    pub(crate) loadbalance: LoadBalance,
    pub(crate) retry: bool,
    pub(crate) timeout: Duration,
    /// How long a process that is told to go waits for its builds.
    pub(crate) drain_timeout: Duration,
    /// Run `buildkitd` by rootlesskit; unset: rootless unless the daemon is root.
    pub(crate) rootless: Option<bool>,
    /// The `buildkitd` to run; unset: the first on PATH.
    pub(crate) buildkitd: Option<PathBuf>,
    /// Whether buildx loads what has no output.
    pub(crate) default_load: bool,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            replicas: 1,
            loadbalance: LoadBalance::default(),
            retry: true,
            timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(3600),
            rootless: None,
            buildkitd: None,
            default_load: false,
        }
    }
}

pub(super) static KEYS: [Entry<LocalOptions>; 8] = [
    Entry {
        key: OptionKey {
            name: "replicas",
            accepts: "a whole number from 1 to 1000",
            default: "1",
            doc: "How many `buildkitd` processes the node has, each with a cache of its own.",
        },
        read: Read::One(|options, text| value::replicas(text).map(|value| options.replicas = value)),
    },
    Entry {
        key: OptionKey {
            name: "loadbalance",
            accepts: value::LOADBALANCE,
            default: "sticky",
            doc: "How a build's process is chosen. sticky sends the same project to the same one, so that its cache is warm; \
                  sticky-bounded does so while that one has at most 1.25 times its share of the running builds; least-loaded \
                  takes the one with the fewest. See [placement.md](placement.md).",
        },
        read: Read::One(|options, text| value::loadbalance(text).map(|value| options.loadbalance = value)),
    },
    Entry {
        key: OptionKey {
            name: "retry",
            accepts: value::SWITCH,
            default: "on",
            doc: "Whether a build whose process ends is started again on another one, when nothing of it was given to the client yet. \
                  off ends it with an error.",
        },
        read: Read::One(|options, text| value::switch(text).map(|value| options.retry = value)),
    },
    Entry {
        key: OptionKey {
            name: "timeout",
            accepts: "a duration longer than 0, as in 90s, 2m30s or 1h",
            default: "60s",
            doc: "How long the start of a process may take.",
        },
        read: Read::One(|options, text| value::timeout(text).map(|value| options.timeout = value)),
    },
    Entry {
        key: OptionKey {
            name: "drain-timeout",
            accepts: "a duration, as in 30m or 2h, or 0",
            default: "1h",
            doc: "How long a process that `stop` tells to go waits for the builds that run in it. One without builds goes at once, \
                  and all go when the daemon ends.",
        },
        read: Read::One(|options, text| value::drain_timeout(text).map(|value| options.drain_timeout = value)),
    },
    Entry {
        key: OptionKey {
            name: "rootless",
            accepts: value::BOOLEAN,
            default: "true, unless the daemon runs as root",
            doc: "Run `buildkitd` by rootlesskit.",
        },
        read: Read::One(|options, text| value::boolean(text).map(|value| options.rootless = Some(value))),
    },
    Entry {
        key: OptionKey {
            name: "buildkitd",
            accepts: "an absolute path",
            default: "the first `buildkitd` on PATH",
            doc: "The `buildkitd` to run.",
        },
        read: Read::One(|options, text| value::path(text).map(|value| options.buildkitd = value)),
    },
    Entry {
        key: OptionKey {
            name: "default-load",
            accepts: value::BOOLEAN,
            default: "false",
            doc: "Whether `docker buildx build` without an output loads its image into the local Docker. This is done by buildx, which is told so when the builder is registered with it.",
        },
        read: Read::One(|options, text| value::boolean(text).map(|value| options.default_load = value)),
    },
];
