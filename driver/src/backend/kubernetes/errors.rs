//! What kube reports, in the words of the backend's errors.

use std::time::Duration;

use kube::client::AuthError;
use tokio::task::JoinError;

use super::client::Connection;
use super::context::ContextError;
use crate::backend::{ApplyError, BoxError, DeleteError, NoNamespace};

/// How long a request that is no stream may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Kubeconfig(#[from] ContextError),
    #[error("kubeconfig {files} cannot be used")]
    Context {
        files: String,
        #[source]
        source: BoxError,
    },
    #[error("the service account of this pod cannot be used")]
    InCluster(#[source] BoxError),
    #[error("failed to prepare the connection to {server}")]
    Client {
        server: String,
        #[source]
        source: BoxError,
    },
    #[error("the credentials were not there within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("the connection was given up")]
    Interrupted(#[source] JoinError),
}

impl ConnectError {
    pub(super) fn client(server: String, error: kube::Error) -> Self {
        Self::Client { server, source: plain(error) }
    }
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The API server's own words.
    #[error("{message}")]
    Refused { code: u16, reason: String, message: String },
    #[error("the connection failed")]
    Lost(#[source] BoxError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => status.into(),
            other => Self::Lost(plain(other)),
        }
    }
}

impl From<Box<kube::error::Status>> for RequestError {
    fn from(status: Box<kube::error::Status>) -> Self {
        let message = match status.message.is_empty() {
            true => format!("the API server answers {} {}", status.code, status.reason).trim_end().to_owned(),
            false => status.message,
        };
        Self::Refused { code: status.code, reason: status.reason, message }
    }
}

/// kube's wrappers print their source in their own text; the source alone says the same once.
fn plain(error: kube::Error) -> BoxError {
    match error {
        kube::Error::Service(source) => source,
        kube::Error::HyperError(source) => source.into(),
        kube::Error::RustlsTls(source) => source.into(),
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.trim();
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            format!("exec plugin {cmd} failed with {}{said}", out.status).into()
        }
        kube::Error::Auth(source) => source.into(),
        other => other.into(),
    }
}

impl RequestError {
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { code: 403, .. })
    }

    /// Whether other credentials could help.
    pub(super) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { code: 401, .. })
    }

    pub(super) fn is_missing_namespace(&self, namespace: &str) -> bool {
        matches!(self, Self::Refused { code: 404, message, .. }
            if message.contains(&format!("namespaces \"{namespace}\" not found")))
    }
}

/// Whether an error that was made here says that the credentials do not hold.
pub(super) fn is_unauthorized(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<RequestError>().is_some_and(RequestError::is_unauthorized)
}

/// Whether it says that a right is missing.
pub(super) fn is_forbidden(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<RequestError>().is_some_and(RequestError::is_forbidden)
}

/// One request, bounded.
pub(super) async fn ask<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RequestError> {
    ask_within(REQUEST_TIMEOUT, request).await
}

pub(super) async fn ask_within<T>(
    bound: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(bound, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RequestError::TimedOut(bound)),
    }
}

/// What was asked for, to name it in an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) verb: &'static str,
    pub(super) resource: &'static str,
    pub(super) name: &'a str,
}

impl Asked<'_> {
    fn object(&self) -> String {
        let kind = self.resource.trim_end_matches('s');
        format!("{kind} {}", self.name)
    }

    pub(super) fn apply_error(&self, connection: &Connection, error: RequestError) -> ApplyError {
        let namespace = connection.namespace.clone();
        match error {
            error if error.is_forbidden() => {
                ApplyError::Forbidden { verb: self.verb, resource: self.resource, namespace, source: error.into() }
            }
            error if error.is_missing_namespace(&namespace) => {
                ApplyError::Refused { verb: self.verb, object: self.object(), source: NoNamespace { namespace }.into() }
            }
            error @ RequestError::Refused { .. } => {
                ApplyError::Refused { verb: self.verb, object: self.object(), source: error.into() }
            }
            RequestError::Connect(error) => error.into(),
            RequestError::Lost(source) => ApplyError::Unreachable { what: connection.server.to_string(), source },
            error @ RequestError::TimedOut(_) => {
                ApplyError::Unreachable { what: connection.server.to_string(), source: error.into() }
            }
        }
    }

    pub(super) fn delete_error(&self, connection: &Connection, error: RequestError) -> DeleteError {
        match error {
            error if error.is_forbidden() => DeleteError::Refused {
                object: self.object(),
                source: format!(
                    "not allowed to {} {} in namespace {}: {error}",
                    self.verb, self.resource, connection.namespace
                )
                .into(),
            },
            error @ RequestError::Refused { .. } => {
                DeleteError::Refused { object: self.object(), source: error.into() }
            }
            RequestError::Connect(error) => error.into(),
            RequestError::Lost(source) => DeleteError::Unreachable { what: connection.server.to_string(), source },
            error @ RequestError::TimedOut(_) => {
                DeleteError::Unreachable { what: connection.server.to_string(), source: error.into() }
            }
        }
    }
}

impl From<ConnectError> for ApplyError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Kubeconfig(ContextError::Read { path, source }) => {
                Self::Config { path, source: source.into() }
            }
            ConnectError::Kubeconfig(ContextError::Parse { path, source }) => Self::Config { path, source },
            ConnectError::Client { server, source } => Self::Unreachable { what: server, source },
            other => Self::Unreachable { what: "the cluster".to_owned(), source: other.into() },
        }
    }
}

impl From<ConnectError> for DeleteError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Client { server, source } => Self::Unreachable { what: server, source },
            other => Self::Unreachable { what: "the cluster".to_owned(), source: other.into() },
        }
    }
}
