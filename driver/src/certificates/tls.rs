//! PEM texts into the client's side of TLS; what is wrong with one is told by the place it came from.

use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ClientConfig, DEFAULT_VERSIONS, RootCertStore, SupportedProtocolVersion, version};

/// A PEM text, and what to call it in an error.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    pub text: &'a [u8],
    pub place: String,
}

/// What a client shows of itself.
#[derive(Debug, Clone)]
pub struct ClientPair<'a> {
    pub certificate: Text<'a>,
    pub key: Text<'a>,
}

/// Which versions of TLS are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// 1.3 alone: both ends are ours.
    Newest,
    /// All that are safe.
    Safe,
}

/// Why the texts make no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no {what} in {place}")]
    Empty { what: &'static str, place: String },
    #[error("failed to read the {what} in {place}")]
    Pem {
        what: &'static str,
        place: String,
        #[source]
        source: PemError,
    },
    #[error("the certificate in {place} can't be used as a CA")]
    Ca {
        place: String,
        #[source]
        source: rustls::Error,
    },
    #[error("the certificate in {certificate} and the key in {key} can't be used together")]
    Pair {
        certificate: String,
        key: String,
        #[source]
        source: rustls::Error,
    },
    #[error("failed to set TLS up")]
    Setup(#[source] rustls::Error),
}

/// A client's side that trusts `roots` and shows `client`. ALPN is what a gRPC server asks for.
///
/// # Errors
/// When one of the texts is not what it should be.
pub fn connector(
    roots: &Text<'_>,
    client: Option<&ClientPair<'_>>,
    versions: Versions,
) -> Result<TlsConnector, TlsError> {
    let mut trusted = RootCertStore::empty();
    for certificate in certificates(roots)? {
        trusted.add(certificate).map_err(|source| TlsError::Ca { place: roots.place.clone(), source })?;
    }
    let versions: &[&SupportedProtocolVersion] = match versions {
        Versions::Newest => &[&version::TLS13],
        Versions::Safe => DEFAULT_VERSIONS,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?
        .with_root_certificates(trusted);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(ClientPair { certificate, key }) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|source| unpaired(certificate, key, source))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether a certificate and a key belong together.
///
/// # Errors
/// When they do not, or one cannot be read.
pub fn check_pair(certificate: &Text<'_>, key: &Text<'_>) -> Result<(), TlsError> {
    CertifiedKey::from_der(certificates(certificate)?, private_key(key)?, &provider())
        .map(drop)
        .map_err(|source| unpaired(certificate, key, source))
}

fn unpaired(certificate: &Text<'_>, key: &Text<'_>, source: rustls::Error) -> TlsError {
    TlsError::Pair { certificate: certificate.place.clone(), key: key.place.clone(), source }
}

/// Named, so that no other crate of the program can change what is used by switching on a feature.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(pem: &Text<'_>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificate";
    let certificates = CertificateDer::pem_slice_iter(pem.text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what, place: pem.place.clone(), source })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { what, place: pem.place.clone() });
    }
    Ok(certificates)
}

fn private_key(pem: &Text<'_>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    PrivateKeyDer::from_pem_slice(pem.text).map_err(|source| match source {
        PemError::NoItemsFound => TlsError::Empty { what, place: pem.place.clone() },
        source => TlsError::Pem { what, place: pem.place.clone(), source },
    })
}
