//! What docker's own configuration says to buildx: the names of its contexts, and filters for every prune.

use std::fs;

use buildfleet_shim::docker::{Config, Globals, config_dir};
use serde_json::Value;

use crate::settings::Process;

/// docker's contexts, `default` left out: buildx takes that name for itself.
pub(super) fn contexts() -> Vec<String> {
    let Some(dir) = config_dir(&Process, &Globals::default()) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(dir.join("contexts/meta")) else { return Vec::new() };
    let metas = entries.flatten().filter_map(|entry| fs::read(entry.path().join("meta.json")).ok());
    let name = |meta: Vec<u8>| Some(serde_json::from_slice::<Value>(&meta).ok()?.get("Name")?.as_str()?.to_owned());
    metas.filter_map(name).collect()
}

/// `pruneFilters` of config.json.
pub(super) fn prune_filters() -> Vec<String> {
    let Some(dir) = config_dir(&Process, &Globals::default()) else { return Vec::new() };
    let Ok(text) = fs::read(Config::without_file(dir).file()) else { return Vec::new() };
    let Ok(json) = serde_json::from_slice::<Value>(&text) else { return Vec::new() };
    let filters = json.get("pruneFilters").and_then(Value::as_array).cloned().unwrap_or_default();
    filters.iter().filter_map(|filter| filter.as_str().map(str::to_owned)).collect()
}

/// The filters of a command and those that hold for every one: docker's rule has no word against the user's on labels.
pub(super) fn with_defaults(mut given: Vec<String>, defaults: Vec<String>) -> Vec<String> {
    for filter in defaults {
        let Some((key, value)) = filter.split_once('=') else { continue };
        let against = match key {
            "label" => Some(format!("label!={value}")),
            "label!" => Some(format!("label={value}")),
            _ => None,
        };
        if !against.is_some_and(|against| given.contains(&against)) && !given.contains(&filter) {
            given.push(filter);
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn filters_of_config_json_are_added_unless_the_user_says_the_opposite() {
        for (given, defaults, wanted) in [
            ("", "until=24h", "until=24h"),
            ("type=regular", "label=keep x", "type=regular label=keep"),
            ("label!=keep", "label=keep", "label!=keep"),
            ("label=keep", "label!=keep until=1h", "label=keep until=1h"),
            ("label=other", "label!=keep", "label=other label!=keep"),
            ("until=24h", "until=24h", "until=24h"),
        ] {
            assert_eq!(with_defaults(list(given), list(defaults)), list(wanted), "{given} | {defaults}");
        }
    }
}
