//! `--driver-opt` strings into typed options: every error at once, each by its key. Knows no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::builder::{Driver, DriverOpts};

mod quantity;
mod toleration;

pub use quantity::{Quantity, QuantityError};
pub use toleration::{Toleration, TolerationError};

/// The options of a node, by driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverOptions {
    Kubernetes(KubernetesOptions),
    Local(LocalOptions),
    Remote(RemoteOptions),
}

impl DriverOptions {
    /// Types the options of one node.
    ///
    /// # Errors
    /// All that is wrong with them together, in the order of the keys.
    pub fn parse(driver: Driver, given: &DriverOpts) -> Result<Self, OptionErrors> {
        let _ = (driver, given);
        Err(OptionErrors(Vec::new()))
    }

    /// How many pods are wanted.
    pub fn replicas(&self) -> u32 {
        match self {
            Self::Kubernetes(options) => options.replicas,
            Self::Local(options) => options.replicas,
            Self::Remote(_) => 1,
        }
    }

    /// How long a start may take.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Kubernetes(options) => options.timeout,
            Self::Local(options) => options.timeout,
            Self::Remote(options) => options.timeout,
        }
    }

    pub fn loadbalance(&self) -> LoadBalance {
        match self {
            Self::Kubernetes(options) => options.loadbalance,
            Self::Local(options) => options.loadbalance,
            Self::Remote(_) => LoadBalance::Sticky,
        }
    }
}

/// `--driver-opt` as buildx reads it: each occurrence is one CSV record of `key=value` fields, split at the first `=`; a
/// later key wins.
///
/// # Errors
/// Every field without `=` and every record that is no CSV.
pub fn split_driver_opts(given: &[String]) -> Result<DriverOpts, OptionErrors> {
    let _ = given;
    Ok(BTreeMap::new())
}

/// Options of the `kubernetes` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesOptions {
    pub(crate) namespace: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) replicas: u32,
    pub(crate) requests: Resources,
    pub(crate) limits: Resources,
    pub(crate) nodeselector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) rootless: bool,
    pub(crate) qemu_install: bool,
    pub(crate) qemu_image: Option<String>,
    pub(crate) loadbalance: LoadBalance,
    pub(crate) timeout: Duration,
    pub(crate) transport: TransportChoice,
}

/// Options of the `local` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    pub(crate) replicas: u32,
    pub(crate) loadbalance: LoadBalance,
    pub(crate) timeout: Duration,
    /// Run `buildkitd` by rootlesskit; unset: rootless unless the daemon is root.
    pub(crate) rootless: Option<bool>,
    /// The `buildkitd` to run; unset: the first on PATH.
    pub(crate) buildkitd: Option<PathBuf>,
}

/// Options of the `remote` driver, with buildx's spelling of keys: `cacert`, `cert`, `key`, `servername`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    pub(crate) timeout: Duration,
    pub(crate) tls: Option<RemoteTls>,
}

/// TLS files for `tcp://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTls {
    pub(crate) ca: PathBuf,
    /// Certificate and key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) servername: Option<String>,
}

/// CPU and memory, for requests or for limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub(crate) cpu: Option<Quantity>,
    pub(crate) memory: Option<Quantity>,
}

/// How a pod is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalance {
    /// The same project lands on the same ready pod.
    #[default]
    Sticky,
    Random,
}

/// Which ways to a pod may be taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// The fastest that answers.
    #[default]
    Auto,
    Exec,
    PortForward,
    PodIp,
}

impl TransportChoice {
    /// Whether `buildkitd` has to listen on TCP with mTLS for it.
    pub fn needs_tls(self) -> bool {
        match self {
            Self::Auto | Self::PortForward | Self::PodIp => true,
            Self::Exec => false,
        }
    }
}

/// Everything that is wrong with the options of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionErrors(Vec<OptionError>);

/// One option that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("driver option `{key}`: {problem}")]
pub struct OptionError {
    pub key: String,
    pub problem: String,
}

impl fmt::Display for OptionErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for OptionErrors {}
