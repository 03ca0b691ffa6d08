//! docker's own configuration, as far as it says where plugins, builders and endpoints are: read only.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::environment::Environment;

/// docker's context that is made of `DOCKER_HOST` and the like.
const DEFAULT_CONTEXT: &str = "default";

/// Why config.json cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no JSON", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{}: `{key}` has to be {wanted}", path.display())]
    Value { path: PathBuf, key: &'static str, wanted: &'static str },
}

/// docker's global flags that matter for where things are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    pub config: Option<OsString>,
    pub context: Option<OsString>,
    pub host: Option<OsString>,
    /// Any of the flags that begin with `tls`.
    pub tls: bool,
}

/// A directory of docker's configuration and what its config.json says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    dir: PathBuf,
    extra_dirs: Vec<PathBuf>,
    context: Option<String>,
}

impl Config {
    /// Without a config.json there is nothing special.
    ///
    /// # Errors
    /// When config.json is there and cannot be used.
    pub fn read(dir: PathBuf) -> Result<Self, ConfigError> {
        let path = file(&dir);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Self::without_file(dir)),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let json: Value = match serde_json::from_slice(&text) {
            Ok(json) => json,
            Err(source) => return Err(ConfigError::Json { path, source }),
        };
        let Some(object) = json.as_object() else {
            return Err(ConfigError::Value { path, key: "", wanted: "an object" });
        };
        // As docker reads it: names in any case.
        let field = |name: &str| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let extra_dirs = match field(EXTRA_DIRS) {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => match strings(value) {
                Some(dirs) => dirs.into_iter().map(PathBuf::from).collect(),
                None => return Err(ConfigError::Value { path, key: EXTRA_DIRS, wanted: "a list of strings" }),
            },
        };
        let context = field("currentContext").and_then(Value::as_str).filter(|name| !name.is_empty());
        Ok(Self { dir, extra_dirs, context: context.map(str::to_owned) })
    }

    /// What docker goes on with when config.json is broken, after it has said so.
    #[must_use]
    pub fn without_file(dir: PathBuf) -> Self {
        Self { dir, ..Self::default() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn file(&self) -> PathBuf {
        file(&self.dir)
    }

    /// `cliPluginsExtraDirs`
    pub fn extra_dirs(&self) -> &[PathBuf] {
        &self.extra_dirs
    }

    /// The name of docker's current context.
    pub fn context(&self, environment: &impl Environment, globals: &Globals) -> String {
        let text = |value: OsString| value.to_string_lossy().into_owned();
        if let Some(context) = globals.context.clone().filter(|name| !name.is_empty()) {
            return text(context);
        }
        if globals.host.is_some() || environment.var("DOCKER_HOST").is_some() {
            return DEFAULT_CONTEXT.to_owned();
        }
        let named = environment.var("DOCKER_CONTEXT").map(text).or_else(|| self.context.clone());
        named.unwrap_or_else(|| DEFAULT_CONTEXT.to_owned())
    }

    /// What buildx keeps its current builder by: the context's name, or the address behind the default one.
    pub fn endpoint(&self, environment: &impl Environment, globals: &Globals) -> String {
        let context = self.context(environment, globals);
        if context != DEFAULT_CONTEXT {
            return context;
        }
        let host = globals.host.clone().or_else(|| environment.var("DOCKER_HOST")).unwrap_or_default();
        let tls =
            globals.tls || environment.var("DOCKER_TLS").is_some() || environment.var("DOCKER_TLS_VERIFY").is_some();
        host_address(&host.to_string_lossy(), tls)
    }
}

/// In config.json: directories of plugins before all others.
pub const EXTRA_DIRS: &str = "cliPluginsExtraDirs";

/// docker's configuration directory: `--config`, `$DOCKER_CONFIG`, `~/.docker`.
pub fn config_dir(environment: &impl Environment, globals: &Globals) -> Option<PathBuf> {
    if let Some(dir) = globals.config.clone().or_else(|| environment.var("DOCKER_CONFIG")) {
        return Some(PathBuf::from(dir));
    }
    Some(Path::new(&environment.var("HOME")?).join(".docker"))
}

fn file(dir: &Path) -> PathBuf {
    dir.join("config.json")
}

/// `None` when it is another type.
fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// As docker completes an address.
fn host_address(host: &str, tls: bool) -> String {
    let host = host.trim();
    if host.is_empty() {
        return if tls { "tcp://localhost:2376".to_owned() } else { "unix:///var/run/docker.sock".to_owned() };
    }
    let (scheme, rest) = host.split_once("://").unwrap_or(("tcp", host));
    match (scheme, rest) {
        ("unix", "") => "unix:///var/run/docker.sock".to_owned(),
        ("tcp", "") => "tcp://localhost:2375".to_owned(),
        ("tcp", rest) => {
            let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (name, port) = match address.rsplit_once(':') {
                // The last colon of a bare IPv6 address is in brackets.
                Some((name, port)) if !port.contains(']') => (name, port),
                _ => (address, ""),
            };
            let name = if name.is_empty() { "localhost" } else { name };
            format!("tcp://{name}:{}{path}", if port.is_empty() { "2375" } else { port })
        }
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, Result<Config, ConfigError>) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("config.json"), text).expect("ours");
        let config = Config::read(dir.path().to_owned());
        (dir, config)
    }

    #[test]
    fn what_is_read_of_config_json() {
        let (_dir, read) = config(r#"{"auths": {}, "CLIPluginsExtraDirs": ["/a", "/b"], "currentContext": "remote"}"#);
        let read = read.expect("it is sound");
        assert_eq!(read.extra_dirs(), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(read.context.as_deref(), Some("remote"));
        let (_dir, read) = config(r#"{"cliPluginsExtraDirs": null, "currentContext": ""}"#);
        let read = read.expect("it is sound");
        assert_eq!((read.extra_dirs().len(), read.context), (0, None));
        let missing = Config::read(PathBuf::from("/nonexistent/docker")).expect("nothing is there");
        assert_eq!(missing.extra_dirs().len(), 0);
    }

    #[test]
    fn a_broken_config_json_is_named() {
        for (text, wanted) in [
            ("{", "is no JSON"),
            ("[]", "has to be an object"),
            (r#"{"cliPluginsExtraDirs": "/a"}"#, "`cliPluginsExtraDirs` has to be a list of strings"),
            (r#"{"cliPluginsExtraDirs": [1]}"#, "`cliPluginsExtraDirs` has to be a list of strings"),
        ] {
            let (dir, read) = config(text);
            let said = read.expect_err(text).to_string();
            assert!(said.contains(wanted) && said.contains(&dir.path().display().to_string()), "{text}: {said}");
        }
    }

    #[test]
    fn the_directory_of_the_configuration() {
        for (variables, flag, wanted) in [
            (vec![("DOCKER_CONFIG", "/d"), ("HOME", "/h")], None, Some("/d")),
            (vec![("DOCKER_CONFIG", "/d"), ("HOME", "/h")], Some("/f"), Some("/f")),
            (vec![("HOME", "/h")], None, Some("/h/.docker")),
            (vec![], None, None),
        ] {
            let environment: BTreeMap<&str, &str> = variables.into_iter().collect();
            let globals = Globals { config: flag.map(OsString::from), ..Globals::default() };
            assert_eq!(config_dir(&environment, &globals), wanted.map(PathBuf::from));
        }
    }

    #[test]
    fn what_buildx_keeps_its_current_builder_by() {
        let chosen = Config { context: Some("chosen".to_owned()), ..Config::default() };
        let flags = |context: Option<&str>, host: Option<&str>| Globals {
            context: context.map(OsString::from),
            host: host.map(OsString::from),
            ..Globals::default()
        };
        let none = vec![];
        for (config, variables, globals, wanted) in [
            (&Config::default(), none.clone(), flags(None, None), "unix:///var/run/docker.sock"),
            (&chosen, none.clone(), flags(None, None), "chosen"),
            (&chosen, vec![("DOCKER_CONTEXT", "named")], flags(None, None), "named"),
            (&chosen, vec![("DOCKER_CONTEXT", "named")], flags(Some("flag"), None), "flag"),
            (&chosen, vec![("DOCKER_CONTEXT", "named"), ("DOCKER_HOST", "ssh://u@h")], flags(None, None), "ssh://u@h"),
            (&chosen, vec![("DOCKER_HOST", "ssh://u@h")], flags(None, Some("unix:///x")), "unix:///x"),
            (&chosen, vec![("DOCKER_HOST", "tcp://10.0.0.1")], flags(None, None), "tcp://10.0.0.1:2375"),
            (&chosen, none.clone(), flags(Some("default"), None), "unix:///var/run/docker.sock"),
            (&chosen, vec![("DOCKER_TLS_VERIFY", "1")], flags(Some("default"), None), "tcp://localhost:2376"),
        ] {
            let environment: BTreeMap<&str, &str> = variables.into_iter().collect();
            assert_eq!(config.endpoint(&environment, &globals), wanted, "{globals:?}");
        }
    }

    #[test]
    fn addresses_are_completed_as_docker_does() {
        for (given, wanted) in [
            (" unix:///a ", "unix:///a"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("tcp://", "tcp://localhost:2375"),
            ("tcp://h", "tcp://h:2375"),
            ("tcp://h:1/p", "tcp://h:1/p"),
            ("tcp://:1", "tcp://localhost:1"),
            ("h:1", "tcp://h:1"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://[::1]:1", "tcp://[::1]:1"),
            ("ssh://me@there", "ssh://me@there"),
        ] {
            assert_eq!(host_address(given, false), wanted, "{given}");
        }
    }
}
