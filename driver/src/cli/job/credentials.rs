//! Credentials for registries out of docker's own configuration and its credential helpers: those that a build needs, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::images::DOCKER_HUB;

/// How long a credential helper may take: one may ask a cloud, or a person.
const HELPER: Duration = Duration::from_secs(60);

/// What docker calls its own registry in its configuration.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Why credentials could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no docker configuration", path.display())]
    Form {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("found no `{program}` on PATH, which docker's configuration names for {registry}")]
    NoHelper { program: String, registry: String },
    #[error("failed to run `{program}` for {registry}")]
    Run {
        program: String,
        registry: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{program}` gave no answer for {registry} within {} s", HELPER.as_secs())]
    Slow { program: String, registry: String },
    #[error("`{program}` has no credentials for {registry}: {said}")]
    Refused { program: String, registry: String, said: String },
    #[error("`{program}` answered for {registry} with what is no JSON of credentials")]
    Answer {
        program: String,
        registry: String,
        #[source]
        source: serde_json::Error,
    },
}

/// docker's `config.json`, as far as it is about credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

/// Of one registry, as `config.json` has it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
struct Auth {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    registrytoken: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(…)")
    }
}

/// What is needed of the configuration, and for which registries it has something.
pub(super) struct Needed {
    /// A `config.json`; `None` when there are no credentials for any of them.
    pub(super) config: Option<Vec<u8>>,
    pub(super) registries: Vec<String>,
}

impl DockerConfig {
    /// Of the file in docker's directory; nothing when it is not there.
    pub(super) fn read(directory: &Path) -> Result<Self, CredentialsError> {
        let path = directory.join("config.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(CredentialsError::Read { path, source }),
        };
        serde_json::from_slice(&text).map_err(|source| CredentialsError::Form { path, source })
    }

    /// The credentials for these registries. `find` looks for a program on PATH.
    pub(super) async fn needed(
        &self,
        registries: &BTreeSet<String>,
        find: impl Fn(&str) -> Option<PathBuf>,
    ) -> Result<Needed, Vec<CredentialsError>> {
        let (mut auths, mut errors, mut found) = (BTreeMap::new(), Vec::new(), Vec::new());
        for registry in registries {
            let auth = match self.helper(registry) {
                Some(helper) => ask(helper, registry, &find).await,
                None => Ok(self.stored(registry)),
            };
            match auth {
                Ok(Some(auth)) => {
                    auths.insert(key(registry), auth);
                    found.push(registry.clone());
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let config = (!auths.is_empty()).then(|| serde_json::json!({ "auths": auths }).to_string().into_bytes());
        Ok(Needed { config, registries: found })
    }

    /// One for this registry counts more than the one for all.
    fn helper(&self, registry: &str) -> Option<&str> {
        let own = [key(registry), registry.to_owned()].iter().find_map(|key| self.cred_helpers.get(key));
        own.or(Some(&self.creds_store)).map(String::as_str).filter(|helper| !helper.is_empty())
    }

    fn stored(&self, registry: &str) -> Option<Auth> {
        let exact = self.auths.get(&key(registry));
        let by_host =
            || self.auths.iter().find(|(key, _)| host(key) == host(&self::key(registry))).map(|(_, auth)| auth);
        exact.or_else(by_host).filter(|auth| **auth != Auth::default()).cloned()
    }
}

/// What the configuration calls a registry.
fn key(registry: &str) -> String {
    if registry == DOCKER_HUB { HUB_KEY.to_owned() } else { registry.to_owned() }
}

/// A key may be a URL.
fn host(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Docker's protocol: the registry on stdin, JSON on stdout. `None`: the helper knows it not.
async fn ask(
    helper: &str,
    registry: &str,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Option<Auth>, CredentialsError> {
    let (program, registry) = (format!("docker-credential-{helper}"), registry.to_owned());
    let Some(path) = find(&program) else { return Err(CredentialsError::NoHelper { program, registry }) };
    let run = async {
        let mut command = Command::new(path);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read it has its answer already.
            let _ = stdin.write_all(key(&registry).as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(HELPER, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(CredentialsError::Run { program, registry, source }),
        Err(_) => return Err(CredentialsError::Slow { program, registry }),
    };
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
        // The words by which docker's own client knows it.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(CredentialsError::Refused { program, registry, said });
    }
    let answer: Result<Answer, _> = serde_json::from_slice(&output.stdout);
    let Answer { username, secret } =
        answer.map_err(|source| CredentialsError::Answer { program, registry, source })?;
    Ok(Some(match username.as_str() {
        "<token>" => Auth { identitytoken: secret, ..Auth::default() },
        _ => Auth { auth: STANDARD.encode(format!("{username}:{secret}")), ..Auth::default() },
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;

    fn config(json: &Value) -> DockerConfig {
        serde_json::from_value(json.clone()).expect("it is one")
    }

    async fn needed(json: &Value, registries: &[&str], helpers: &Path) -> Result<Value, Vec<String>> {
        let registries = registries.iter().map(|name| (*name).to_owned()).collect();
        let find = |program: &str| Some(helpers.join(program)).filter(|path| path.exists());
        let needed = config(json).needed(&registries, find).await;
        let needed = needed.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(needed.config.map_or(Value::Null, |config| serde_json::from_slice(&config).expect("it is JSON")))
    }

    #[tokio::test]
    async fn only_what_is_needed_leaves_the_configuration() {
        let stored = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": "aHVi" },
            "a.example": { "auth": "YQ==", "email": "x" },
            "https://b.example/v2/": { "username": "u", "password": "p" },
            "c.example": { "identitytoken": "t" },
            "d.example": {},
            "other.example": { "auth": "bm8=" },
        }, "HttpHeaders": { "x": "y" } });
        let registries = ["docker.io", "a.example", "b.example", "c.example", "d.example", "e.example"];
        let wanted = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": "aHVi" },
            "a.example": { "auth": "YQ==" },
            "b.example": { "username": "u", "password": "p" },
            "c.example": { "identitytoken": "t" },
        } });
        assert_eq!(needed(&stored, &registries, Path::new("/")).await, Ok(wanted));
        assert_eq!(needed(&stored, &["e.example"], Path::new("/")).await, Ok(Value::Null));
        assert_eq!(needed(&json!({}), &["docker.io"], Path::new("/")).await, Ok(Value::Null));
    }

    fn helper(directory: &Path, name: &str, script: &str) {
        let path = directory.join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\nread -r key\n{script}\n")).expect("ours");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }

    #[tokio::test]
    async fn helpers_are_asked_in_docker_s_protocol() {
        let dir = tempfile::tempdir().expect("a directory");
        helper(
            dir.path(),
            "all",
            "[ \"$key\" = https://index.docker.io/v1/ ] || { echo 'credentials not found in native keychain'; exit 1; }\n[ \"$1\" = get ] && echo '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"s\"}'",
        );
        helper(dir.path(), "one", "echo \"{\\\"Username\\\":\\\"<token>\\\",\\\"Secret\\\":\\\"of $key\\\"}\"");
        helper(dir.path(), "locked", "echo 'the keyring is locked' >&2; exit 1");
        helper(dir.path(), "mad", "echo yes");
        let stored = json!({
            "credsStore": "all",
            "credHelpers": { "a.example": "one", "l.example": "locked", "m.example": "mad", "n.example": "none" },
            "auths": { "b.example": { "auth": "stale" } },
        });
        let wanted = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": "dTpz" },
            "a.example": { "identitytoken": "of a.example" },
        } });
        assert_eq!(needed(&stored, &["docker.io", "a.example", "b.example"], dir.path()).await, Ok(wanted));
        let errors =
            needed(&stored, &["l.example", "m.example", "n.example"], dir.path()).await.expect_err("three fail");
        assert_eq!(
            errors,
            [
                "`docker-credential-locked` has no credentials for l.example: the keyring is locked",
                "`docker-credential-mad` answered for m.example with what is no JSON of credentials",
                "found no `docker-credential-none` on PATH, which docker's configuration names for n.example",
            ]
        );
    }

    #[test]
    fn a_configuration_that_is_none_is_told_and_a_missing_one_has_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(DockerConfig::read(dir.path()).expect("nothing").auths.is_empty());
        std::fs::write(dir.path().join("config.json"), "{").expect("ours");
        let error = DockerConfig::read(dir.path()).expect_err("no JSON").to_string();
        assert!(error.ends_with("config.json is no docker configuration"), "{error}");
    }
}
