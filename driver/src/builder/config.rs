//! What `buildkitd` is configured by: the user's `buildkitd.toml`, and the certificates and keys that it names.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

/// The name of the file in the directory that `buildkitd` is pointed to.
const TOML: &str = "buildkitd.toml";

/// Where in that directory the files are that it names.
const CERTIFICATES: &str = "certs";

/// What a Secret of Kubernetes holds at most.
const TOTAL_MAX: usize = 1024 * 1024;

const NETWORK_HOST: &str = "network.host";

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("it is no TOML: {0}")]
    Syntax(String),
    #[error("`{key}` is no {wanted}")]
    Shape { key: String, wanted: &'static str },
    #[error("`{key}`: failed to read {path}: {problem}")]
    File { key: String, path: String, problem: String },
    #[error("it has {0} bytes together with the files that it names, and {TOTAL_MAX} can be kept at most")]
    TooLarge(usize),
    #[error("`{0}` is no name of a file in it")]
    Name(String),
    #[error("it names `{0}`, which is not there")]
    Missing(String),
}

/// A configuration with all that belongs to it. Paths in it are relative to the directory that it will be in, which is
/// another one for each driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildkitdConfig {
    toml: String,
    /// PEM files by their paths in that directory.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

impl BuildkitdConfig {
    /// Takes a user's file, and by `load` the registries' certificates and keys that it names.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(toml: &str, load: impl Fn(&str) -> Result<String, String>) -> Result<Self, Vec<ConfigError>> {
        let mut document = parse(toml).map_err(|error| vec![error])?;
        let (mut files, mut errors) = (BTreeMap::new(), Vec::new());
        let mut names = BTreeSet::new();
        paths(&mut document, &mut errors, |registry, key, path| match load(path) {
            Err(problem) => Err(ConfigError::File { key: key.to_owned(), path: path.to_owned(), problem }),
            Ok(content) => {
                let name = free_name(registry, path, &mut names);
                files.insert(name.clone(), content);
                Ok(name)
            }
        });
        let config = Self { toml: document.to_string(), files };
        errors.extend(config.too_large());
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// What another process has read by [`BuildkitdConfig::read`].
    ///
    /// # Errors
    /// When it cannot have come from there.
    pub fn try_new(toml: String, files: BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        let mut document = parse(&toml).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        paths(&mut document, &mut errors, |_, _, path| match files.contains_key(path) {
            true => Ok(path.to_owned()),
            false => Err(ConfigError::Missing(path.to_owned())),
        });
        let is_name = |name: &str| {
            let mut parts = name.split('/');
            let is_plain = |part: &str| part != "." && part != ".." && !part.is_empty() && clean(part) == part;
            parts.next() == Some(CERTIFICATES) && name.split('/').count() == 3 && parts.all(is_plain)
        };
        errors.extend(files.keys().filter(|name| !is_name(name)).map(|name| ConfigError::Name(name.clone())));
        let config = Self { toml, files };
        errors.extend(config.too_large());
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    pub fn toml(&self) -> &str {
        &self.toml
    }

    /// The files that it names, by their relative paths.
    pub fn named(&self) -> &BTreeMap<String, String> {
        &self.files
    }

    /// All files by their paths in `directory`, and with its name in them.
    pub fn files_in(&self, directory: &str) -> BTreeMap<String, String> {
        let mut files = self.files.clone();
        let toml = match parse(&self.toml) {
            Ok(mut document) => {
                paths(&mut document, &mut Vec::new(), |_, _, path| Ok(format!("{directory}/{path}")));
                document.to_string()
            }
            // It has been read before; a store that was changed by hand is for `buildkitd` to complain of.
            Err(_) => self.toml.clone(),
        };
        files.insert(TOML.to_owned(), toml);
        files
    }

    /// The path of the file to point `buildkitd` to.
    pub fn path_in(directory: &str) -> String {
        format!("{directory}/{TOML}")
    }

    /// Whether it says itself that builds may use the network of their pod.
    pub fn allows_network_host(&self) -> bool {
        let Ok(document) = parse(&self.toml) else { return false };
        let allowed = document.get("insecure-entitlements").and_then(Item::as_array);
        allowed.is_some_and(|allowed| allowed.iter().any(|entitlement| entitlement.as_str() == Some(NETWORK_HOST)))
    }

    fn too_large(&self) -> Option<ConfigError> {
        let total = self.toml.len() + self.files.values().map(String::len).sum::<usize>();
        (total > TOTAL_MAX).then_some(ConfigError::TooLarge(total))
    }
}

fn parse(toml: &str) -> Result<DocumentMut, ConfigError> {
    toml.parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        let line = toml.get(..at).unwrap_or_default().matches('\n').count() + 1;
        ConfigError::Syntax(format!("line {line}: {}", error.message().replace('\n', ", ")))
    })
}

/// Gives each path of a certificate or key to `change`, with the registry and the whole key that it stands under.
fn paths(
    document: &mut DocumentMut,
    errors: &mut Vec<ConfigError>,
    mut change: impl FnMut(&str, &str, &str) -> Result<String, ConfigError>,
) {
    let shape = |key: &str, wanted: &'static str| ConfigError::Shape { key: key.to_owned(), wanted };
    if let Some(item) = document.get("insecure-entitlements")
        && item.as_array().is_none_or(|list| list.iter().any(|word| word.as_str().is_none()))
    {
        errors.push(shape("insecure-entitlements", "list of strings"));
    }
    let Some(registries) = document.get_mut("registry") else { return };
    let Some(registries) = registries.as_table_like_mut() else { return errors.push(shape("registry", "table")) };
    for (registry, item) in registries.iter_mut() {
        let registry = registry.get().to_owned();
        let key = format!("registry.\"{registry}\"");
        let Some(table) = item.as_table_like_mut() else {
            errors.push(shape(&key, "table"));
            continue;
        };
        if let Some(item) = table.get_mut("ca") {
            let key = format!("{key}.ca");
            match item.as_array_mut() {
                Some(list) => texts(list, &key, errors, &mut |path| change(&registry, &key, path)),
                None => errors.push(shape(&key, "list of paths")),
            }
        }
        let Some(item) = table.get_mut("keypair") else { continue };
        let key = format!("{key}.keypair");
        for pair in pairs(item, &key, errors) {
            for field in ["key", "cert"] {
                let Some(item) = pair.get_mut(field) else { continue };
                let key = format!("{key}.{field}");
                match item.as_str().map(|path| change(&registry, &key, path)) {
                    Some(Ok(path)) => *item = toml_edit::value(path),
                    Some(Err(error)) => errors.push(error),
                    None => errors.push(shape(&key, "path")),
                }
            }
        }
    }
}

/// The tables of a list, however it is written.
fn pairs<'a>(item: &'a mut Item, key: &str, errors: &mut Vec<ConfigError>) -> Vec<&'a mut dyn TableLike> {
    let wrong = || ConfigError::Shape { key: key.to_owned(), wanted: "list of tables" };
    match item {
        Item::ArrayOfTables(tables) => tables.iter_mut().map(|table| table as &mut dyn TableLike).collect(),
        Item::Value(Value::Array(list)) => {
            let mut pairs: Vec<&mut dyn TableLike> = Vec::new();
            for value in list.iter_mut() {
                match value {
                    Value::InlineTable(table) => pairs.push(table),
                    _ => errors.push(wrong()),
                }
            }
            pairs
        }
        _ => {
            errors.push(wrong());
            Vec::new()
        }
    }
}

/// Changes each text of a list, in the place and decoration that it has.
fn texts(
    list: &mut Array,
    key: &str,
    errors: &mut Vec<ConfigError>,
    change: &mut dyn FnMut(&str) -> Result<String, ConfigError>,
) {
    for value in list.iter_mut() {
        match value.as_str().map(&mut *change) {
            Some(Ok(path)) => {
                let decor = value.decor().clone();
                *value = Value::from(path);
                *value.decor_mut() = decor;
            }
            Some(Err(error)) => errors.push(error),
            None => errors.push(ConfigError::Shape { key: key.to_owned(), wanted: "list of paths" }),
        }
    }
}

/// `certs/REGISTRY/FILE` as in buildx; where two files would get one name there, with a number.
fn free_name(registry: &str, path: &str, names: &mut BTreeSet<String>) -> String {
    let file = clean(path.rsplit('/').next().unwrap_or_default());
    let name = format!("{CERTIFICATES}/{}/{file}", clean(registry));
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    let mut free = std::iter::once(name.clone()).chain(numbered).filter(|name| names.insert(name.clone()));
    free.next().unwrap_or(name)
}

/// The name with `_` for each run of characters that not every place takes.
fn clean(name: &str) -> String {
    let mut cleaned = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => cleaned.push(c),
            _ if cleaned.ends_with('_') => {}
            _ => cleaned.push('_'),
        }
    }
    cleaned
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
