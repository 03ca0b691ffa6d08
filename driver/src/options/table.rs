//! The tables of keys: one entry for each, from which options are read, errors explained, and the reference page made.

use crate::builder::{Driver, DriverOpts};

use super::value::ValueError;
use super::{OptionError, kubernetes, local, remote};

/// What there is to know of a key of `--driver-opt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionKey {
    pub name: &'static str,
    /// The values that are accepted, in words that can follow "accepted is".
    pub accepts: &'static str,
    /// What holds when the key is not given.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// A key, or a family of keys, and how a value gets into the options `O`.
pub(super) struct Entry<O: 'static> {
    pub(super) key: OptionKey,
    pub(super) read: Read<O>,
}

/// How a value gets into the options `O`.
pub(super) enum Read<O> {
    One(fn(&mut O, &str) -> Result<(), ValueError>),
    /// Of a name that ends in `NAME`: with what stands in the place of that.
    Family(fn(&mut O, &str, &str) -> Result<(), ValueError>),
}

/// What a name ends in that stands for a family of keys.
const FAMILY: &str = "NAME";

impl<O> Entry<O> {
    fn read(&self, options: &mut O, key: &str, value: &str) -> Result<(), ValueError> {
        match self.read {
            Read::One(read) => read(options, value),
            Read::Family(read) => {
                let family = self.key.name.strip_suffix(FAMILY).unwrap_or_default();
                read(options, key.strip_prefix(family).unwrap_or_default(), value)
            }
        }
    }
}

const DRIVERS: [Driver; 3] = [Driver::Kubernetes, Driver::Local, Driver::Remote];

/// The keys of a driver, in the order of the reference page.
pub fn keys(driver: Driver) -> Box<dyn Iterator<Item = &'static OptionKey>> {
    match driver {
        Driver::Kubernetes => Box::new(kubernetes::KEYS.iter().flat_map(|keys| *keys).map(|entry| &entry.key)),
        Driver::Local => Box::new(local::KEYS.iter().map(|entry| &entry.key)),
        Driver::Remote => Box::new(remote::KEYS.iter().map(|entry| &entry.key)),
    }
}

/// Reads every given key; what is wrong is added to `errors`, and leaves the default in its place.
pub(super) fn read<O: Default>(
    driver: Driver,
    tables: &[&'static [Entry<O>]],
    given: &DriverOpts,
    errors: &mut Vec<OptionError>,
) -> O {
    let mut options = O::default();
    for (key, value) in given {
        let problem = match tables.iter().copied().flatten().find(|entry| names(entry.key.name, key)) {
            Some(entry) => entry
                .read(&mut options, key, value)
                .err()
                .map(|error| format!("{error}; accepted is {}", entry.key.accepts)),
            None => Some(unknown(driver, key)),
        };
        errors.extend(problem.map(|problem| OptionError { key: key.clone(), problem }));
    }
    options
}

/// Why `key` is none of the driver's, and which one may have been meant.
fn unknown(driver: Driver, key: &str) -> String {
    let others: Vec<String> = DRIVERS
        .iter()
        .filter(|other| keys(**other).any(|known| names(known.name, key)))
        .map(|other| format!("the {other} driver"))
        .collect();
    let accepted = keys(driver).map(|known| known.name).collect::<Vec<_>>().join(", ");
    if !others.is_empty() {
        return format!("an option of {}; accepted by the {driver} driver are {accepted}", others.join(" and "));
    }
    if driver == Driver::Kubernetes && (TOLERATION_FIELDS.contains(&key) || key.contains('/')) {
        // A shell has taken the quotes away, or there were none.
        return format!(
            "unknown; when it belongs to the list before it, that field needs quotes: \
             --driver-opt '\"tolerations=key=a,value=b\"'; accepted by the {driver} driver are {accepted}"
        );
    }
    match nearest(driver, key) {
        Some(name) => format!("unknown, did you mean `{name}`?"),
        None => format!("unknown; accepted by the {driver} driver are {accepted}"),
    }
}

/// The fields of a toleration that may follow a comma.
const TOLERATION_FIELDS: [&str; 5] = ["key", "operator", "value", "effect", "tolerationSeconds"];

/// Whether `key` is the key called `name`; a name that ends in `.NAME` stands for a family of keys.
fn names(name: &str, key: &str) -> bool {
    match name.strip_suffix(FAMILY) {
        Some(family) => key.starts_with(family),
        None => name == key,
    }
}

/// The driver's key that differs from `key` by the fewest slips of the keyboard, if these are few.
fn nearest(driver: Driver, key: &str) -> Option<&'static str> {
    // Users write keys as other tools spell them, too: nodeSelector, node-selector, limits_cpu.
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_', '.'], "");
    let given = plain(key);
    keys(driver)
        .map(|known| (strsim::damerau_levenshtein(&plain(known.name), &given), known.name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_spelling_is_found_among_the_keys_of_the_driver() {
        for (driver, key, wanted) in [
            (Driver::Kubernetes, "replica", Some("replicas")),
            (Driver::Kubernetes, "Replicas", Some("replicas")),
            (Driver::Kubernetes, "nodeSelector", Some("nodeselector")),
            (Driver::Kubernetes, "node-selector", Some("nodeselector")),
            (Driver::Kubernetes, "toleration", Some("tolerations")),
            (Driver::Kubernetes, "limit.cpu", Some("limits.cpu")),
            (Driver::Kubernetes, "request.memroy", Some("requests.memory")),
            (Driver::Kubernetes, "loadbalancing", Some("loadbalance")),
            (Driver::Kubernetes, "qemu-install", Some("qemu.install")),
            (Driver::Kubernetes, " replicas", Some("replicas")),
            (Driver::Kubernetes, "name", None),
            (Driver::Kubernetes, "x", None),
            (Driver::Kubernetes, "bridge-network", None),
            (Driver::Local, "nodeSelector", None),
            (Driver::Local, "buildkit", Some("buildkitd")),
            (Driver::Remote, "ca-cert", Some("cacert")),
            (Driver::Remote, "server-name", Some("servername")),
            (Driver::Remote, "ket", Some("key")),
        ] {
            assert_eq!(nearest(driver, key), wanted, "{driver} {key}");
        }
    }

    #[test]
    fn every_key_is_explained_and_named_once() {
        for driver in DRIVERS {
            let mut names: Vec<&str> = keys(driver).map(|key| key.name).collect();
            for key in keys(driver) {
                for text in [key.accepts, key.default, key.doc] {
                    assert!(!text.is_empty() && !text.contains('|') && !text.contains('\n'), "{key:?}");
                }
                assert!(key.doc.ends_with('.') && !key.accepts.ends_with('.'), "{key:?}");
            }
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all);
        }
    }

    #[test]
    fn a_family_of_keys_has_one_name() {
        assert!(names("env.NAME", "env.HTTP_PROXY"));
        assert!(names("env.NAME", "env."));
        assert!(!names("env.NAME", "environment"));
        assert!(!names("image", "images"));
    }
}
