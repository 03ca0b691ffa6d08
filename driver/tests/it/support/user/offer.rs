//! What a user's session serves to pods, and how much of it was taken.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The methods that a session serves, by the names that BuildKit gives them.
pub(crate) const FILE_SYNC: &str = "/moby.filesync.v1.FileSync/DiffCopy";
pub(crate) const FILE_SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Answers with what it was sent, message by message.
pub(crate) const ECHO: &str = "/moby.upload.v1.Upload/Pull";
/// Fails with details of the length that the request names.
pub(crate) const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
pub(crate) const POLICY: &str = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";

/// What a session offers.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) id: String,
    /// Bytes of the directory `context`.
    pub(crate) context: usize,
    /// Bytes of one message of it: BuildKit sends files in pieces of 32 KiB.
    pub(crate) piece: usize,
    pub(crate) methods: Vec<&'static str>,
    /// Metadata beside the id and the methods.
    pub(crate) metadata: Vec<(&'static str, Vec<u8>)>,
    /// Whether health checks are answered.
    pub(crate) healthy: bool,
    /// Whether exports are read.
    pub(crate) takes_exports: bool,
}

impl Offer {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            context: 1 << 20,
            piece: 32 << 10,
            methods: vec![FILE_SYNC, FILE_SEND, HEALTH, ECHO, CREDENTIALS, POLICY],
            metadata: Vec::new(),
            healthy: true,
            takes_exports: true,
        }
    }

    pub(crate) fn with_context(self, bytes: usize) -> Self {
        Self { context: bytes, ..self }
    }

    pub(crate) fn with_metadata(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.metadata.push((name, value.into()));
        self
    }

    /// The metadata of the call that opens the session: one line for each method.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &[u8]| {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        };
        add("x-docker-expose-session-uuid", self.id.as_bytes());
        for method in &self.methods {
            add("x-docker-expose-session-grpc-method", method.as_bytes());
        }
        for (name, value) in &self.metadata {
            add(name, value);
        }
        headers
    }
}

/// What pods took.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Bytes of the context that were handed over to the daemon.
    pub(crate) sent: AtomicUsize,
    /// Health checks that came.
    pub(crate) checks: AtomicUsize,
    calls: Mutex<Vec<(String, HeaderMap)>>,
    exports: Mutex<BTreeMap<String, usize>>,
}

impl Given {
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }

    pub(super) fn called(&self, path: &str, headers: &HeaderMap) {
        self.calls.lock().unwrap().push((path.to_owned(), headers.clone()));
    }

    /// The headers of each call of a method.
    pub(crate) fn calls(&self, path: &str) -> Vec<HeaderMap> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(called, _)| called == path).map(|(_, headers)| headers.clone()).collect()
    }

    pub(super) fn exported(&self, exporter: &str, bytes: usize) {
        *self.exports.lock().unwrap().entry(exporter.to_owned()).or_default() += bytes;
    }

    /// Bytes of an export that came.
    pub(crate) fn export(&self, exporter: &str) -> usize {
        self.exports.lock().unwrap().get(exporter).copied().unwrap_or_default()
    }
}
