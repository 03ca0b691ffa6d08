//! What a certificate says: read out of PEM, ours or others'.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::tls::Text;

/// How long before their end certificates are replaced.
const RENEWED_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why a text has no certificate that can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no certificate in {0}")]
    Empty(String),
    #[error("failed to read the certificate in {place}")]
    Pem {
        place: String,
        #[source]
        source: PemError,
    },
    #[error("failed to read the certificate in {place}")]
    Der {
        place: String,
        #[source]
        source: x509_parser::asn1_rs::Err<x509_parser::error::X509Error>,
    },
}

/// One certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
    is_authority: bool,
    algorithm: String,
    usages: Vec<&'static str>,
}

impl Certificate {
    /// What stands in DER.
    ///
    /// # Errors
    /// When it is no certificate; `place` says where it came from.
    pub fn from_der(der: &[u8], place: &str) -> Result<Self, ReadError> {
        let (_, read) =
            X509Certificate::from_der(der).map_err(|source| ReadError::Der { place: place.to_owned(), source })?;
        Ok(Self {
            der: der.to_vec(),
            subject: read.subject().to_string(),
            issuer: read.issuer().to_string(),
            names: names(&read),
            not_before: at(read.validity().not_before.timestamp()),
            not_after: at(read.validity().not_after.timestamp()),
            is_authority: read.is_ca(),
            algorithm: algorithm(&read),
            usages: usages(&read),
        })
    }

    /// As in `CN=buildkitd`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject of the authority that signed it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// DNS names and addresses that it is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub fn is_authority(&self) -> bool {
        self.is_authority
    }

    /// Of its key, as in `ECDSA P-256`.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// What its key may be used for, in a few words each.
    pub fn usages(&self) -> &[&'static str] {
        &self.usages
    }

    /// SHA-256 of it, as `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        let bytes = digest(&SHA256, &self.der);
        let hex: Vec<String> = bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        hex.join(":")
    }

    /// Whether that authority's key has signed it.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, own)), Ok((_, by))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der))
        else {
            return false;
        };
        own.verify_signature(Some(by.public_key())).is_ok()
    }

    /// Whether it should be replaced now.
    pub fn is_due(&self, now: SystemTime) -> bool {
        is_due(self.not_after, now)
    }
}

/// Whether certificates that end at that time should be replaced now.
pub fn is_due(not_after: SystemTime, now: SystemTime) -> bool {
    not_after < now + RENEWED_BEFORE
}

/// All certificates of a PEM text: one at least.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn read_all(pem: &Text<'_>) -> Result<Vec<Certificate>, ReadError> {
    let place = || pem.place.clone();
    let mut all = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.text) {
        let der = der.map_err(|source| ReadError::Pem { place: place(), source })?;
        all.push(Certificate::from_der(&der, &pem.place)?);
    }
    if all.is_empty() { Err(ReadError::Empty(place())) } else { Ok(all) }
}

/// A time before 1970 is taken for 1970.
fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn names(read: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = read.subject_alternative_name() else { return Vec::new() };
    let shown = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => address(bytes),
        other => other.to_string(),
    };
    names.value.general_names.iter().map(shown).collect()
}

fn address(bytes: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return IpAddr::from(four).to_string();
    }
    if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
        return IpAddr::from(sixteen).to_string();
    }
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);
const P521: Oid<'static> = oid!(1.3.132.0.35);
const ED25519: Oid<'static> = oid!(1.3.101.112);

fn algorithm(read: &X509Certificate<'_>) -> String {
    let key = read.public_key();
    let curve = || key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(_)) => match curve() {
            Some(curve) if curve == P256 => "ECDSA P-256".to_owned(),
            Some(curve) if curve == P384 => "ECDSA P-384".to_owned(),
            Some(curve) if curve == P521 => "ECDSA P-521".to_owned(),
            _ => "ECDSA".to_owned(),
        },
        _ if key.algorithm.algorithm == ED25519 => "Ed25519".to_owned(),
        _ => key.algorithm.algorithm.to_id_string(),
    }
}

fn usages(read: &X509Certificate<'_>) -> Vec<&'static str> {
    let mut usages = Vec::new();
    if let Ok(Some(usage)) = read.key_usage() {
        let usage = usage.value;
        usages.extend(usage.digital_signature().then_some("digital signature"));
        usages.extend(usage.key_encipherment().then_some("key encipherment"));
        usages.extend(usage.key_cert_sign().then_some("certificates"));
        usages.extend(usage.crl_sign().then_some("revocation lists"));
    }
    if let Ok(Some(purpose)) = read.extended_key_usage() {
        let purpose = purpose.value;
        usages.extend((purpose.any || purpose.server_auth).then_some("server"));
        usages.extend((purpose.any || purpose.client_auth).then_some("client"));
    }
    usages
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, Purpose, Validity};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn text(text: &str) -> Text<'_> {
        Text { text: text.as_bytes(), place: "cert.pem".to_owned() }
    }

    #[test]
    fn what_was_signed_is_read_back() {
        let validity = Validity::starting(SystemTime::now(), 2 * 365 * DAY);
        let ca = Authority::create("the CA", validity).unwrap();
        let names = ["buildkitd", "*.b.svc", "127.0.0.1", "::1"].map(|name| name.parse().unwrap());
        for (purpose, usages) in
            [(Purpose::Server, ["digital signature", "server"]), (Purpose::Client, ["digital signature", "client"])]
        {
            let signed = ca.sign("x", &names, purpose, validity).unwrap();
            let read = read_all(&text(&signed.certificate)).unwrap().swap_remove(0);
            assert_eq!((read.subject(), read.issuer()), ("CN=x", "CN=the CA"));
            assert_eq!(read.names(), ["buildkitd", "*.b.svc", "127.0.0.1", "::1"]);
            assert_eq!((read.usages(), read.algorithm()), (&usages[..], "ECDSA P-256"));
            assert_eq!(read.not_after(), validity.not_after());
            assert!(read.not_before() < SystemTime::now() - Duration::from_secs(30 * 60));
            assert!(!read.is_due(SystemTime::now()) && read.is_due(read.not_after() - 29 * DAY));
        }
        let own = read_all(&text(ca.certificate())).unwrap().swap_remove(0);
        assert!(own.is_authority() && own.is_signed_by(&own) && own.usages() == ["certificates"]);
    }

    #[test]
    fn a_text_has_all_of_its_certificates_or_says_why_not() {
        let validity = Validity::starting(SystemTime::now(), DAY);
        let [one, two] = [Authority::create("one", validity).unwrap(), Authority::create("two", validity).unwrap()];
        let both = format!("# the old one\n{}\n{}", one.certificate(), two.certificate());
        let subjects: Vec<String> =
            read_all(&text(&both)).unwrap().iter().map(|read| read.subject().to_owned()).collect();
        assert_eq!(subjects, ["CN=one", "CN=two"]);
        let key = one.key();
        for (bad, words) in [
            ("", "no certificate in cert.pem"),
            (key.as_str(), "no certificate in cert.pem"),
            (
                "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
                "failed to read the certificate in cert.pem",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "failed to read the certificate in cert.pem",
            ),
        ] {
            assert_eq!(read_all(&text(bad)).unwrap_err().to_string(), words);
        }
    }
}
