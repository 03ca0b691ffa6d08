//! `--driver-opt` strings into typed options: every error at once, each by its key. Knows no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::builder::{Driver, DriverOpts};

mod budget;
mod by_hand;
mod csv;
mod document;
mod duration;
mod job;
mod kubernetes;
mod label;
mod local;
mod pairs;
mod patch;
mod quantity;
mod remote;
mod table;
#[cfg(test)]
mod tests;
mod toleration;
mod ttl;
mod value;

pub use budget::{Amount, Budget, BudgetError};
pub use by_hand::{HandGiven, HandKind, HandMode, HandOptions, UnknownWord, parse_by_hand};
pub use csv::{CsvError, fields as csv_fields, record as csv_record};
pub use job::parse_for_job;
pub use kubernetes::{AccessMode, Claim, KubernetesOptions, Resources};
pub use local::LocalOptions;
pub(crate) use pairs::{APP_LABEL, PLATFORM_ANNOTATION};
pub use patch::{ManifestPatch, PatchError};
pub use quantity::{Quantity, QuantityError};
pub use remote::{RemoteOptions, RemoteTls};
pub use table::{OptionKey, keys};
pub use toleration::{Toleration, TolerationError};
pub use ttl::{Ttl, TtlError};

/// The options of a node, by driver.
#[expect(clippy::large_enum_variant, reason = "there is one per node, and it is hardly ever moved")]
#[derive(Debug, Clone, PartialEq)]
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
        let mut errors = Vec::new();
        let options = match driver {
            Driver::Kubernetes => {
                let options = table::read(driver, &kubernetes::KEYS, given, &mut errors);
                options.check(options.is_stateful(), &mut errors);
                Self::Kubernetes(options)
            }
            Driver::Local => Self::Local(table::read(driver, &[&local::KEYS], given, &mut errors)),
            Driver::Remote => {
                let options = table::read(driver, &[&remote::KEYS], given, &mut errors);
                Self::Remote(options.finish(|key| given.contains_key(key), &mut errors))
            }
        };
        OptionErrors::none_of(errors).map(|()| options)
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
            Self::Remote(options) => options.loadbalance,
        }
    }

    /// Whether a build whose pod ends may be started again elsewhere.
    pub fn retry(&self) -> bool {
        match self {
            Self::Kubernetes(options) => options.retry,
            Self::Local(options) => options.retry,
            Self::Remote(options) => options.retry,
        }
    }

    /// Whether builds without an output are loaded into the local Docker by buildx.
    pub fn default_load(&self) -> bool {
        match self {
            Self::Kubernetes(options) => options.default_load,
            Self::Local(options) => options.default_load,
            Self::Remote(options) => options.default_load,
        }
    }

    /// The architecture of the machines that the user has chosen for the pods, in Kubernetes' words.
    pub fn machines(&self) -> Option<&str> {
        match self {
            Self::Kubernetes(options) => options.nodeselector.get("kubernetes.io/arch").map(String::as_str),
            Self::Local(_) | Self::Remote(_) => None,
        }
    }

    /// How long pods that are replaced wait for their builds, where they go on beside their successors.
    pub fn drain_timeout(&self) -> Option<Duration> {
        match self {
            Self::Kubernetes(options) => Some(options.drain_timeout),
            Self::Local(_) | Self::Remote(_) => None,
        }
    }
}

/// `--driver-opt` as buildx reads it: each occurrence is one CSV record of `key=value` fields, split at the first `=`; a
/// later key wins.
///
/// # Errors
/// Every field without `=` and every record that is no CSV.
pub fn split_driver_opts(given: &[String]) -> Result<DriverOpts, OptionErrors> {
    let (opts, errors) = split(given);
    OptionErrors::none_of(errors).map(|()| opts)
}

/// Splits and types the values of `--driver-opt` in one go, so that the errors of both come together.
///
/// # Errors
/// All that is wrong: first what could not be split, in the order given, then the rest in the order of the keys.
pub fn parse_driver_opts(driver: Driver, given: &[String]) -> Result<(DriverOpts, DriverOptions), OptionErrors> {
    let (opts, mut errors) = split(given);
    let typed = DriverOptions::parse(driver, &opts);
    match typed {
        Ok(options) => OptionErrors::none_of(errors).map(|()| (opts, options)),
        Err(more) => {
            errors.extend(more.0);
            Err(OptionErrors(errors))
        }
    }
}

/// Options whose value may be `@FILE`.
const OF_FILES: [&str; 3] = ["affinity", "manifest-patch", "topologyspread"];

/// Puts the content of files in the place of `@FILE`, where an option is a document. What cannot be split stays as it is,
/// for its reader to say so.
///
/// # Errors
/// Every file that could not be read.
pub fn with_files(
    given: &[String],
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, OptionErrors> {
    let mut errors = Vec::new();
    let mut record = |record: &String| -> String {
        let Ok(fields) = csv::fields(record) else { return record.clone() };
        let mut changed = false;
        let field = |field: String| match field.split_once("=@").filter(|(key, _)| OF_FILES.contains(key)) {
            None => field,
            Some((key, path)) => {
                changed = true;
                read(path).map(|content| format!("{key}={content}")).unwrap_or_else(|problem| {
                    let problem = format!("failed to read {path}: {problem}");
                    errors.push(OptionError { key: key.to_owned(), problem });
                    String::new()
                })
            }
        };
        let fields: Vec<String> = fields.into_iter().map(field).collect();
        if changed { csv::record(&fields) } else { record.clone() }
    };
    let records = given.iter().map(&mut record).collect();
    OptionErrors::none_of(errors).map(|()| records)
}

/// What could be split, and what could not.
fn split(given: &[String]) -> (DriverOpts, Vec<OptionError>) {
    let (mut opts, mut errors) = (BTreeMap::new(), Vec::new());
    for record in given {
        match csv::fields(record) {
            Err(error) => errors.push(OptionError {
                key: record.clone(),
                problem: format!(
                    "{error}; accepted is key=value[,key=value...], with quotes around a whole field that has commas: \
                     \"key=a,b\",key=value"
                ),
            }),
            Ok(fields) => {
                for field in fields {
                    let problem = match field.split_once('=') {
                        Some((key, value)) if !key.is_empty() => {
                            opts.insert(key.to_owned(), value.to_owned());
                            continue;
                        }
                        Some(_) => "the key before `=` is missing",
                        None => "not of the form key=value",
                    };
                    errors.push(OptionError { key: field, problem: problem.to_owned() });
                }
            }
        }
    }
    (opts, errors)
}

/// How a pod is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadBalance {
    /// The same project lands on the same ready pod.
    #[default]
    Sticky,
    /// As sticky, but no pod gets much more than its share of the running builds.
    StickyBounded,
    /// The ready pod with the fewest running builds.
    LeastLoaded,
    Random,
}

impl fmt::Display for LoadBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sticky => "sticky",
            Self::StickyBounded => "sticky-bounded",
            Self::LeastLoaded => "least-loaded",
            Self::Random => "random",
        })
    }
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

/// Everything that is wrong with the options of one command: at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionErrors(Vec<OptionError>);

/// One option that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("driver option `{key}`: {problem}")]
pub struct OptionError {
    pub key: String,
    pub problem: String,
}

impl OptionErrors {
    /// The errors in the order of their keys, or success when there are none.
    fn none_of(mut errors: Vec<OptionError>) -> Result<(), Self> {
        if errors.is_empty() {
            return Ok(());
        }
        errors.sort_by(|one, other| one.key.cmp(&other.key));
        Err(Self(errors))
    }

    pub fn iter(&self) -> impl Iterator<Item = &OptionError> {
        self.0.iter()
    }
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
