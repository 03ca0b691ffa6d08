//! Options of the `remote` driver, with buildx's spelling of keys.

use std::path::PathBuf;
use std::time::Duration;

use super::table::{Entry, OptionKey, Read};
use super::value;
use super::{LoadBalance, OptionError, TransportChoice};

/// Options of the `remote` driver, with buildx's spelling of keys: `cacert`, `cert`, `key`, `servername`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    pub(crate) timeout: Duration,
    pub(crate) retry: bool,
    pub(crate) tls: Option<RemoteTls>,
    pub(crate) loadbalance: LoadBalance,
    pub(crate) transport: TransportChoice,
    /// Whether buildx loads what has no output.
    pub(crate) default_load: bool,
}

/// TLS files for `tcp://` and `kube-service://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTls {
    pub(crate) ca: PathBuf,
    /// Certificate and key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) servername: Option<String>,
}

/// The keys as given, before they are seen together.
#[derive(Debug, Default)]
pub(super) struct Given {
    timeout: Option<Duration>,
    retry: Option<bool>,
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    servername: Option<String>,
    loadbalance: LoadBalance,
    transport: TransportChoice,
    default_load: bool,
}

/// As long as buildx waits for a remote `buildkitd`.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) static KEYS: [Entry<Given>; 9] = [
    Entry {
        key: OptionKey {
            name: "timeout",
            accepts: "a duration longer than 0, as in 90s, 2m30s or 1h",
            default: "20s",
            doc: "How long to wait for the `buildkitd` to answer.",
        },
        read: Read::One(|given, text| value::timeout(text).map(|value| given.timeout = Some(value))),
    },
    Entry {
        key: OptionKey {
            name: "retry",
            accepts: value::SWITCH,
            default: "on",
            doc: "Whether a build that loses the `buildkitd` is started again when that answers again, if nothing of the build was \
                  given to the client yet. off ends it with an error.",
        },
        read: Read::One(|given, text| value::switch(text).map(|value| given.retry = Some(value))),
    },
    Entry {
        key: OptionKey {
            name: "cacert",
            accepts: "an absolute path",
            default: "no TLS",
            doc: "The certificate authority, in PEM, that the `buildkitd` at a `tcp://` or `kube-service://` endpoint is checked against.",
        },
        read: Read::One(|given, text| value::path(text).map(|value| given.cacert = value)),
    },
    Entry {
        key: OptionKey {
            name: "cert",
            accepts: "an absolute path",
            default: "no certificate",
            doc: "The certificate, in PEM, that is shown to the `buildkitd`. Needs `key` and `cacert`.",
        },
        read: Read::One(|given, text| value::path(text).map(|value| given.cert = value)),
    },
    Entry {
        key: OptionKey {
            name: "key",
            accepts: "an absolute path",
            default: "no certificate",
            doc: "The key, in PEM, of the certificate. Needs `cert` and `cacert`.",
        },
        read: Read::One(|given, text| value::path(text).map(|value| given.key = value)),
    },
    Entry {
        key: OptionKey {
            name: "servername",
            accepts: "a host name or an IP address",
            default: "the endpoint's host",
            doc: "The name that the certificate of the `buildkitd` has to carry. Needs `cacert`.",
        },
        read: Read::One(|given, text| value::host(text).map(|value| given.servername = value)),
    },
    Entry {
        key: OptionKey {
            name: "loadbalance",
            accepts: value::LOADBALANCE,
            default: "sticky",
            doc: "Which of the pods behind a `kube-service://` endpoint gets a build, as for the kubernetes driver.",
        },
        read: Read::One(|given, text| value::loadbalance(text).map(|value| given.loadbalance = value)),
    },
    Entry {
        key: OptionKey {
            name: "transport",
            accepts: "auto, pod-ip or port-forward",
            default: "auto",
            doc: "How the port of a pod behind a `kube-service://` endpoint is reached. auto takes the first that answers, in this order.",
        },
        read: Read::One(|given, text| {
            let choice = value::transport(text)?;
            if choice == TransportChoice::Exec {
                return Err(value::ValueError::Word(text.to_owned()));
            }
            given.transport = choice;
            Ok(())
        }),
    },
    Entry {
        key: OptionKey {
            name: "default-load",
            accepts: value::BOOLEAN,
            default: "false",
            doc: "Whether `docker buildx build` without an output loads its image into the local Docker. This is done by buildx, which is told so when the builder is registered with it.",
        },
        read: Read::One(|given, text| value::boolean(text).map(|value| given.default_load = value)),
    },
];

impl Given {
    /// The options, if the keys go together; `was_given` knows of those, too, whose value was refused.
    pub(super) fn finish(self, was_given: impl Fn(&str) -> bool, errors: &mut Vec<OptionError>) -> RemoteOptions {
        for (key, needed) in
            [("cert", "cacert"), ("cert", "key"), ("key", "cacert"), ("key", "cert"), ("servername", "cacert")]
        {
            if was_given(key) && !was_given(needed) {
                errors.push(OptionError { key: key.to_owned(), problem: format!("needs `{needed}` beside it") });
            }
        }
        let tls = self.cacert.map(|ca| RemoteTls { ca, client: self.cert.zip(self.key), servername: self.servername });
        RemoteOptions {
            timeout: self.timeout.unwrap_or(TIMEOUT),
            retry: self.retry.unwrap_or(true),
            tls,
            loadbalance: self.loadbalance,
            transport: self.transport,
            default_load: self.default_load,
        }
    }
}
