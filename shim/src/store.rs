//! buildx's store of builders: read only, and without its lock, because buildx replaces files whole.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::docker::{Config, Globals, config_dir};
use crate::environment::Environment;

/// Why the store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is nothing that buildx writes", path.display())]
    Strange { path: PathBuf },
}

/// A node of a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub endpoint: String,
    /// Those of `--platform`.
    pub platforms: Vec<String>,
    pub driver_opts: BTreeMap<String, String>,
    /// Arguments of `buildkitd`.
    pub flags: Vec<String>,
    /// What `buildkitd` is configured by: in base64, by paths.
    pub files: BTreeMap<String, String>,
}

/// A builder, as buildx knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    pub name: String,
    pub driver: String,
    pub nodes: Vec<Node>,
}

impl Instance {
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Whether we made it: every node is one of our sockets.
    #[must_use]
    pub fn is_ours(&self, runtime_dir: &Path) -> bool {
        is_ours(&self.driver, self.nodes.iter().map(|node| node.endpoint.as_str()), runtime_dir)
    }

    /// The sockets of its nodes, as far as they are sockets.
    pub fn sockets(&self) -> impl Iterator<Item = &Path> {
        self.nodes.iter().filter_map(|node| socket(&node.endpoint))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(text).ok()?;
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let texts = |value: &Value, name: &str| -> BTreeMap<String, String> {
            let pairs = value.get(name).and_then(Value::as_object).into_iter().flatten();
            pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        };
        let node = |node: &Value| Node {
            name: text(node, "Name"),
            endpoint: text(node, "Endpoint"),
            platforms: list(node, "Platforms").iter().filter_map(platform).collect(),
            driver_opts: texts(node, "DriverOpts"),
            flags: list(node, "Flags").iter().filter_map(|flag| Some(flag.as_str()?.to_owned())).collect(),
            files: texts(node, "Files"),
        };
        let nodes = json.get("Nodes").and_then(Value::as_array).map(|nodes| nodes.iter().map(node).collect());
        json.is_object().then(|| Self {
            name: text(&json, "Name"),
            driver: text(&json, "Driver"),
            nodes: nodes.unwrap_or_default(),
        })
    }
}

/// `os/arch/variant` of an object of OCI.
fn platform(object: &Value) -> Option<String> {
    let part = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let variant = part("variant").map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{}/{}{variant}", part("os")?, part("architecture")?))
}

/// The same of a builder that is known from elsewhere.
pub fn is_ours<'a>(driver: &str, endpoints: impl IntoIterator<Item = &'a str>, runtime_dir: &Path) -> bool {
    let mut nodes = endpoints.into_iter().peekable();
    let inside = |endpoint| socket(endpoint).is_some_and(|path| path.starts_with(runtime_dir));
    driver == "remote" && nodes.peek().is_some() && nodes.all(inside)
}

fn socket(endpoint: &str) -> Option<&Path> {
    endpoint.strip_prefix("unix://").map(Path::new)
}

/// A directory of buildx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// `$BUILDX_CONFIG`, else `buildx` in docker's configuration; `None` when there is no home for either.
    pub fn find(environment: &impl Environment, globals: &Globals) -> Option<Self> {
        let given = environment.var("BUILDX_CONFIG").map(PathBuf::from);
        let dir = given.or_else(|| Some(config_dir(environment, globals)?.join("buildx")))?;
        Some(Self { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The builder of that name, in whatever case; `None` also for what is no name.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn instance(&self, name: &str) -> Result<Option<Instance>, StoreError> {
        let Some(name) = file_name(name) else { return Ok(None) };
        let path = self.dir.join("instances").join(name);
        match read(&path)? {
            None => Ok(None),
            Some(text) => Instance::parse(&text).map(Some).ok_or(StoreError::Strange { path }),
        }
    }

    /// All builders that can be read, by name. One that another buildx has damaged hides no others.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn instances(&self) -> Result<Vec<Instance>, StoreError> {
        let path = self.dir.join("instances");
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut all: Vec<Instance> = names.filter_map(|name| self.instance(&name).ok().flatten()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The builder that a command without a name is for; `None` is the one that docker's context itself is.
    ///
    /// `endpoint` is what [`Config::endpoint`] says.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn current(&self, endpoint: &str) -> Result<Option<Instance>, StoreError> {
        let path = self.dir.join("current");
        if let Some(text) = read(&path)? {
            let json: Value = serde_json::from_slice(&text).map_err(|_| StoreError::Strange { path })?;
            let field = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
            let name = field("Name");
            if !name.is_empty() {
                let instance = self.instance(name);
                let global = json.get("Global").and_then(Value::as_bool).unwrap_or_default();
                if let (true, Ok(Some(instance))) = (global, &instance) {
                    return Ok(Some(instance.clone()));
                }
                if field("Key") == endpoint {
                    return instance;
                }
            }
        }
        match read(&self.dir.join("defaults").join(hash(endpoint)))? {
            None => Ok(None),
            Some(name) => self.instance(&String::from_utf8_lossy(&name)),
        }
    }

    /// The builder of that name, or without one the current one.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn meant(
        &self,
        name: Option<&str>,
        environment: &impl Environment,
        globals: &Globals,
    ) -> Result<Option<Instance>, StoreError> {
        if let Some(name) = name {
            return self.instance(name);
        }
        // What docker says of a broken config.json, it says itself, and goes on without it.
        let dir = config_dir(environment, globals).unwrap_or_default();
        let config = Config::read(dir.clone()).unwrap_or_else(|_| Config::without_file(dir));
        self.current(&config.endpoint(environment, globals))
    }
}

/// The file of a builder; what is no name has none.
fn file_name(name: &str) -> Option<String> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let sound = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    (begins && sound).then(|| name.to_ascii_lowercase())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
    }
}

/// The file of an endpoint's default builder.
fn hash(endpoint: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, endpoint.as_bytes());
    digest.as_ref()[..10].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
