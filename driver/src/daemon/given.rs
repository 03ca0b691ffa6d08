//! What `create` and a Job are given alike, read with all that is wrong noted.

use std::path::PathBuf;

use buildfleet_proto::fleet::{self, Kubeconfig};

use super::backends::{Backends, Located};
use super::words;
use crate::builder::{BuildkitdConfig, Platform};

/// Nothing given is an empty text.
pub(super) fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The cluster of a request, and the namespace that its context names.
pub(super) fn located(backends: &dyn Backends, kubeconfig: Option<Kubeconfig>) -> Located {
    let Kubeconfig { paths, context } = kubeconfig.unwrap_or_default();
    backends.locate(paths.into_iter().map(PathBuf::from).collect(), some(context))
}

/// Each platform once, in the order given.
pub(super) fn platforms(lists: &[String], note: &mut impl FnMut(String)) -> Vec<Platform> {
    let mut platforms: Vec<Platform> = Vec::new();
    for list in lists {
        match Platform::parse_list(list) {
            Ok(list) => list.into_iter().for_each(|platform| {
                if !platforms.contains(&platform) {
                    platforms.push(platform);
                }
            }),
            Err(error) => note(error.to_string()),
        }
    }
    platforms
}

pub(super) fn flags(line: &str, note: &mut impl FnMut(String)) -> Vec<String> {
    words::split(line).unwrap_or_else(|error| {
        note(format!("--buildkitd-flags `{line}`: {error}"));
        Vec::new()
    })
}

pub(super) fn config(given: Option<fleet::BuildkitdConfig>, note: &mut impl FnMut(String)) -> Option<BuildkitdConfig> {
    let fleet::BuildkitdConfig { toml, files } = given?;
    let config = BuildkitdConfig::try_new(toml, files.into_iter().collect());
    config.map_err(|errors| errors.iter().for_each(|error| note(format!("--buildkitd-config: {error}")))).ok()
}
