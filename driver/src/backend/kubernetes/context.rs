//! Kubeconfig files and a context's name into a [`KubeContext`], once, when a node is created.

use std::io;
use std::path::{Path, PathBuf};

use kube::config::{Context, Kubeconfig, KubeconfigError};

use crate::backend::BoxError;
use crate::builder::KubeContext;

/// Where Kubernetes puts a pod's credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why no cluster could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("failed to read kubeconfig {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("kubeconfig {} is not valid", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: BoxError,
    },
    #[error("kubeconfig {files} has no context `{context}`, it has {}", listed(known))]
    NoSuchContext { files: String, context: String, known: Vec<String> },
    #[error("kubeconfig {files} sets no current context, name one of {}", listed(known))]
    NoCurrentContext { files: String, known: Vec<String> },
    #[error("context `{context}` of kubeconfig {files} names the cluster `{cluster}`, which has no server there")]
    NoSuchCluster { files: String, context: String, cluster: String },
    #[error("found no cluster: there is no kubeconfig, and no service account at {}", service_account.display())]
    Nowhere { service_account: PathBuf },
    #[error("context `{context}` needs a kubeconfig, and there is none")]
    ContextWithoutFile { context: String },
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Chooses the cluster of a new node: `context`, or else the current context, of the kubeconfigs in `paths`, merged as
/// `kubectl` merges `$KUBECONFIG`; without paths the service account of this pod. The second value is the namespace that
/// comes with it.
///
/// # Errors
/// When a file cannot be read, or there is no such context.
pub fn resolve_context(
    paths: Vec<PathBuf>,
    context: Option<String>,
) -> Result<(KubeContext, Option<String>), ContextError> {
    resolve(paths, context, Path::new(SERVICE_ACCOUNT))
}

fn resolve(
    paths: Vec<PathBuf>,
    context: Option<String>,
    service_account: &Path,
) -> Result<(KubeContext, Option<String>), ContextError> {
    if paths.is_empty() {
        if let Some(context) = context {
            return Err(ContextError::ContextWithoutFile { context });
        }
        if !service_account.join("token").exists() {
            return Err(ContextError::Nowhere { service_account: service_account.to_owned() });
        }
        let namespace = std::fs::read_to_string(service_account.join("namespace")).ok();
        let namespace = namespace.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        return Ok((KubeContext::InCluster, namespace));
    }
    let merged = read_merged(&paths)?;
    let files = named(&paths);
    let known = || merged.contexts.iter().map(|named| named.name.clone()).collect::<Vec<_>>();
    let context = match context.or_else(|| merged.current_context.clone().filter(|name| !name.is_empty())) {
        Some(context) => context,
        None => return Err(ContextError::NoCurrentContext { files, known: known() }),
    };
    let Some(found) = find_context(&merged, &context) else {
        return Err(ContextError::NoSuchContext { files, context, known: known() });
    };
    let has_server = merged
        .clusters
        .iter()
        .any(|named| named.name == found.cluster && named.cluster.as_ref().is_some_and(|c| c.server.is_some()));
    if !has_server {
        return Err(ContextError::NoSuchCluster { files, context, cluster: found.cluster.clone() });
    }
    let namespace = found.namespace.clone().filter(|namespace| !namespace.is_empty());
    Ok((KubeContext::File { paths, context }, namespace))
}

/// The files in their order, the first to set a value wins. Like `kubectl`, files that are not there are passed over as
/// long as one of them is.
pub(super) fn read_merged(paths: &[PathBuf]) -> Result<Kubeconfig, ContextError> {
    let mut merged: Option<Kubeconfig> = None;
    let mut missing = None;
    for path in paths {
        let next = match Kubeconfig::read_from(path) {
            Ok(next) => next,
            Err(KubeconfigError::ReadConfig(source, path)) if source.kind() == io::ErrorKind::NotFound => {
                missing.get_or_insert((source, path));
                continue;
            }
            Err(KubeconfigError::ReadConfig(source, path)) => return Err(ContextError::Read { path, source }),
            Err(error) => return Err(ContextError::Parse { path: path.clone(), source: error.into() }),
        };
        merged = Some(match merged {
            None => next,
            Some(merged) => {
                merged.merge(next).map_err(|error| ContextError::Parse { path: path.clone(), source: error.into() })?
            }
        });
    }
    match (merged, missing) {
        (Some(merged), _) => Ok(merged),
        (None, Some((source, path))) => Err(ContextError::Read { path, source }),
        (None, None) => Err(ContextError::Nowhere { service_account: SERVICE_ACCOUNT.into() }),
    }
}

pub(super) fn find_context<'a>(config: &'a Kubeconfig, name: &str) -> Option<&'a Context> {
    config.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.as_ref())
}

/// The files as one word of a message.
pub(super) fn named(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chain;

    const ONE: &str = "
apiVersion: v1
kind: Config
current-context: dev
clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}]
contexts:
- {name: dev, context: {cluster: c, user: u, namespace: builds}}
- {name: bare, context: {cluster: c, user: u}}
- {name: broken, context: {cluster: gone, user: u}}
users: [{name: u, user: {token: t}}]
";
    const TWO: &str = "
apiVersion: v1
kind: Config
current-context: prod
clusters: [{name: p, cluster: {server: 'https://10.0.0.2:6443'}}]
contexts:
- {name: prod, context: {cluster: p, namespace: live}}
- {name: dev, context: {cluster: p, namespace: shadowed}}
";
    const NO_CURRENT: &str = "
apiVersion: v1
kind: Config
contexts: [{name: a, context: {cluster: c}}, {name: b, context: {cluster: c}}]
";

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(directory.path().join(name), text).unwrap();
            }
            Self(directory)
        }

        fn paths(&self, names: &[&str]) -> Vec<PathBuf> {
            names.iter().map(|name| self.0.path().join(name)).collect()
        }
    }

    fn files() -> Files {
        Files::new(&[("one", ONE), ("two", TWO), ("none", NO_CURRENT), ("bad", "{")])
    }

    #[test]
    fn a_context_is_chosen_as_kubectl_chooses_it() {
        let files = files();
        for (names, wanted, context, namespace) in [
            (&["one"][..], None, "dev", Some("builds")),
            (&["one"], Some("bare"), "bare", None),
            (&["one", "two"], None, "dev", Some("builds")),
            (&["two", "one"], None, "prod", Some("live")),
            (&["two", "one"], Some("dev"), "dev", Some("shadowed")),
            (&["one", "two"], Some("prod"), "prod", Some("live")),
            (&["missing", "two"], None, "prod", Some("live")),
        ] {
            let paths = files.paths(names);
            let found = resolve_context(paths.clone(), wanted.map(str::to_owned)).unwrap();
            let expected = KubeContext::File { paths, context: context.to_owned() };
            assert_eq!(found, (expected, namespace.map(str::to_owned)), "{names:?} {wanted:?}");
        }
    }

    #[test]
    fn what_cannot_be_chosen_names_the_file_and_the_contexts_there_are() {
        let files = files();
        let at = |name: &str| files.0.path().join(name).display().to_string();
        for (names, wanted, message) in [
            (
                &["one"][..],
                Some("nope"),
                format!("kubeconfig {} has no context `nope`, it has `dev`, `bare`, `broken`", at("one")),
            ),
            (&["none"], None, format!("kubeconfig {} sets no current context, name one of `a`, `b`", at("none"))),
            (
                &["one"],
                Some("broken"),
                format!(
                    "context `broken` of kubeconfig {} names the cluster `gone`, which has no server there",
                    at("one")
                ),
            ),
            (
                &["missing"],
                None,
                format!("failed to read kubeconfig {}: No such file or directory (os error 2)", at("missing")),
            ),
            (&[], Some("dev"), "context `dev` needs a kubeconfig, and there is none".to_owned()),
        ] {
            let error = resolve_context(files.paths(names), wanted.map(str::to_owned)).unwrap_err();
            assert_eq!(chain(&error), message);
        }
        let error = resolve_context(files.paths(&["bad"]), None).unwrap_err();
        assert!(chain(&error).starts_with(&format!("kubeconfig {} is not valid: ", at("bad"))), "{}", chain(&error));
    }

    #[test]
    fn without_a_kubeconfig_the_service_account_decides() {
        let account = Files::new(&[("token", "t"), ("namespace", "ci\n")]);
        let found = resolve(Vec::new(), None, account.0.path()).unwrap();
        assert_eq!(found, (KubeContext::InCluster, Some("ci".to_owned())));
        let empty = Files::new(&[]);
        let error = resolve(Vec::new(), None, empty.0.path()).unwrap_err();
        assert!(matches!(error, ContextError::Nowhere { .. }), "{error}");
    }
}
