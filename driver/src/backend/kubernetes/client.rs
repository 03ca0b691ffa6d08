//! The connection to one cluster: made when first needed, kept, and made anew when its credentials no longer hold.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::uri::InvalidUri;
use http::{HeaderValue, Request};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::{Builder, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::client::retry::RetryPolicy;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

use super::context::{find_context, named, read_merged};
use super::errors::ConnectError;
use crate::builder::KubeContext;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An exec plugin may ask its own servers; one that waits for a person waits in vain.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);
const TLS_BUFFER: usize = 256 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// One cluster as a node sees it.
pub(super) struct Cluster {
    context: KubeContext,
    namespace: Option<String>,
    /// What the environment of a pod says.
    api_server: Option<String>,
    /// Replaced as a whole by [`Cluster::forget`], so that nobody waits with the lock held.
    connection: Mutex<Arc<OnceCell<Connection>>>,
}

/// A client and what it speaks to.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// For messages: the context and the server's address.
    pub(super) server: Arc<str>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Cluster {
    /// `namespace` is what the node's options say; without it the context decides. `api_server` is for the context
    /// [`KubeContext::InCluster`].
    pub(super) fn new(context: KubeContext, namespace: Option<String>, api_server: Option<String>) -> Self {
        Self { context, namespace, api_server, connection: Mutex::default() }
    }

    /// The connection, made now if there is none. Contacts nobody but an exec plugin.
    pub(super) async fn connection(&self) -> Result<Connection, ConnectError> {
        let cell = Arc::clone(&self.connection.lock().unwrap_or_else(PoisonError::into_inner));
        let made =
            cell.get_or_try_init(|| connect(self.context.clone(), self.namespace.clone(), self.api_server.clone()));
        match tokio::time::timeout(PREPARE_TIMEOUT, made).await {
            Ok(made) => made.cloned(),
            Err(_) => Err(ConnectError::TimedOut(PREPARE_TIMEOUT)),
        }
    }

    pub(super) fn context(&self) -> &KubeContext {
        &self.context
    }

    /// The next use reads the kubeconfig again: for credentials that are refused.
    pub(super) fn forget(&self) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }
}

async fn connect(
    context: KubeContext,
    namespace: Option<String>,
    api_server: Option<String>,
) -> Result<Connection, ConnectError> {
    // Files and exec plugins block: kube runs a plugin to its end while it makes the client.
    let made = tokio::task::spawn_blocking(move || {
        let (config, server) = config(&context, api_server)?;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        // A second call finds the provider installed, which is what it wants.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let client = client(config).map_err(|error| ConnectError::client(server.clone(), error))?;
        Ok(Connection { client, namespace, server: server.into() })
    });
    made.await.map_err(ConnectError::Interrupted)?
}

/// kube's own stack, but with small writes sent at once (Nagle's algorithm costs every dial and every small message 40 ms),
/// with keep-alive, and without an error in the log for every answer that is no success.
fn client(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_connect_timeout(config.connect_timeout);
    let https = config.rustls_https_connector_with_connector(tcp)?;
    let https = ServiceBuilder::new().map_response(with_room).service(https);
    let http = Builder::new(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_request(without_translation)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// With room for a whole message of a stream, which then leaves by one system call: `rustls` has 64 KiB.
fn with_room<T>(mut stream: MaybeHttpsStream<T>) -> MaybeHttpsStream<T> {
    if let MaybeHttpsStream::Https(tls) = &mut stream {
        tls.inner_mut().get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    }
    stream
}

/// Asks for v4 of the channel protocol alone. With v5, which kube prefers, the API server takes every message of an exec apart
/// to speak SPDY with the kubelet (`TranslateStreamCloseWebsocketRequests`, Kubernetes 1.30); of v4 it passes the bytes on as
/// they are.
fn without_translation<B>(mut request: Request<B>) -> Request<B> {
    if let Some(protocols) = request.headers_mut().get_mut(SEC_WEBSOCKET_PROTOCOL) {
        *protocols = HeaderValue::from_static("v4.channel.k8s.io");
    }
    request
}

fn config(context: &KubeContext, api_server: Option<String>) -> Result<(Config, String), ConnectError> {
    let (mut config, name) = match context {
        KubeContext::File { paths, context } => {
            let mut merged = read_merged(paths)?;
            for user in merged.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
                if let Some(exec) = &mut user.exec {
                    // A daemon has no terminal: a plugin that would ask must fail and say so instead.
                    exec.interactive_mode = Some(ExecInteractiveMode::Never);
                }
            }
            (from_merged(&merged, paths, context)?, format!("context `{context}`"))
        }
        KubeContext::InCluster => {
            let mut config = Config::incluster_dns().map_err(|error| ConnectError::InCluster(error.into()))?;
            // As Kubernetes' own clients do: the address from the environment works without the cluster's DNS.
            if let Some(url) = api_server {
                config.cluster_url = url.parse().map_err(|error: InvalidUri| ConnectError::InCluster(error.into()))?;
            }
            (config, "this pod's cluster".to_owned())
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let through = config.proxy_url.as_ref().and_then(|proxy| {
        // Who may use the proxy stands before its host.
        let (scheme, authority) = (proxy.scheme_str()?, proxy.authority()?.as_str());
        Some(format!(" through {scheme}://{}", authority.rsplit('@').next()?))
    });
    let url = config.cluster_url.to_string();
    let server = format!("{name} ({}{})", url.trim_end_matches('/'), through.unwrap_or_default());
    Ok((config, server))
}

fn from_merged(merged: &Kubeconfig, paths: &[std::path::PathBuf], context: &str) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    // It is async by its signature alone.
    let config = Handle::current().block_on(Config::from_custom_kubeconfig(merged.clone(), &options));
    let mut config = config.map_err(|error| ConnectError::Context { files: named(paths), source: error.into() })?;
    // kube fills this from `$HTTPS_PROXY` too; the cluster's own setting alone counts, whatever shell started the daemon.
    let cluster = find_context(merged, context).map(|found| &found.cluster);
    let proxy = merged
        .clusters
        .iter()
        .find(|named| Some(&named.name) == cluster)
        .and_then(|named| named.cluster.as_ref()?.proxy_url.as_deref())
        .filter(|proxy| !proxy.is_empty());
    if proxy.is_none() {
        config.proxy_url = None;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_streams_are_asked_for_in_another_protocol() {
        let stream = Request::builder().header(SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io, v4.channel.k8s.io");
        let asked = without_translation(stream.body(()).unwrap());
        assert_eq!(asked.headers()[SEC_WEBSOCKET_PROTOCOL], "v4.channel.k8s.io");
        assert!(without_translation(Request::new(())).headers().is_empty());
    }
}
