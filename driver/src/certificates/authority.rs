//! An authority: makes itself, signs certificates of servers and clients, and is read again where its key was kept.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};

use super::name::SubjectName;
use super::read::{ReadError, read_all};
use super::tls::{Text, TlsError, check_pair};

/// Old enough for a machine whose clock is behind ours.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// When a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    now: SystemTime,
    not_after: SystemTime,
}

impl Validity {
    /// From `now`, in whole seconds as X.509 counts, and a little before.
    pub fn starting(now: SystemTime, lifetime: Duration) -> Self {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs());
        Self { now, not_after: now + lifetime }
    }

    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Server,
    Client,
}

/// A certificate and its key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

impl fmt::Debug for Signed {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make the certificate of {name}")]
pub struct SignError {
    name: String,
    #[source]
    source: rcgen::Error,
}

/// Why texts are no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Pair(#[from] TlsError),
    #[error("the certificate in {0} is not that of an authority")]
    NoAuthority(String),
    #[error("failed to use the key in {place}")]
    Key {
        place: String,
        #[source]
        source: rcgen::Error,
    },
}

/// A CA that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    not_after: SystemTime,
}

impl fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, which signs servers and clients and no further authority.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn create(name: &str, validity: Validity) -> Result<Self, SignError> {
        let failed = |source| SignError { name: name.to_owned(), source };
        let mut params = params(name, validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate, not_after: validity.not_after })
    }

    /// One whose certificate and key were kept.
    ///
    /// # Errors
    /// When they are no authority, or do not belong together.
    pub fn read(certificate: &Text<'_>, key: &Text<'_>) -> Result<Self, AuthorityError> {
        let read = read_all(certificate)?.swap_remove(0);
        if !read.is_authority() {
            return Err(AuthorityError::NoAuthority(certificate.place.clone()));
        }
        check_pair(certificate, key)?;
        let unusable = |source| AuthorityError::Key { place: key.place.clone(), source };
        let key = KeyPair::from_pem(&String::from_utf8_lossy(key.text)).map_err(unusable)?;
        let certificate = String::from_utf8_lossy(certificate.text).into_owned();
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(unusable)?;
        Ok(Self { issuer, certificate, not_after: read.not_after() })
    }

    /// Its own certificate, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What signs: whoever has it can make certificates that all who trust this authority accept.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate with a key of its own. It ends with the authority at the latest.
    ///
    /// # Errors
    /// When there is no randomness, or the authority's key does not sign.
    pub fn sign(
        &self,
        name: &str,
        names: &[SubjectName],
        purpose: Purpose,
        validity: Validity,
    ) -> Result<Signed, SignError> {
        let failed = |source| SignError { name: name.to_owned(), source };
        let validity = Validity { not_after: validity.not_after.min(self.not_after), ..validity };
        let mut params = params(name, validity);
        params.subject_alt_names = names.iter().map(san).collect::<Result<_, _>>().map_err(failed)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        Ok(Signed { certificate, key: key.serialize_pem() })
    }
}

fn params(name: &str, validity: Validity) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |time: SystemTime| epoch + time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(validity.now.checked_sub(BACKDATED).unwrap_or(SystemTime::UNIX_EPOCH));
    params.not_after = at(validity.not_after);
    params
}

fn san(name: &SubjectName) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        SubjectName::Dns(name) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
        SubjectName::Ip(address) => SanType::IpAddress(*address),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    fn text<'a>(text: &'a str, place: &str) -> Text<'a> {
        Text { text: text.as_bytes(), place: place.to_owned() }
    }

    fn validity(years: u32) -> Validity {
        Validity::starting(SystemTime::now(), years * YEAR)
    }

    #[test]
    fn an_authority_whose_key_was_kept_signs_what_its_certificate_vouches_for() {
        let made = Authority::create("ca", validity(10)).unwrap();
        let key = made.key();
        let read = Authority::read(&text(made.certificate(), "ca.pem"), &text(&key, "key.pem")).unwrap();
        assert_eq!(read.certificate(), made.certificate());
        let signed = read.sign("buildkitd", &[], Purpose::Server, validity(2)).unwrap();
        let leaf = read_all(&text(&signed.certificate, "cert.pem")).unwrap().swap_remove(0);
        let [ca, other] = [made, Authority::create("ca", validity(10)).unwrap()]
            .map(|ca| read_all(&text(ca.certificate(), "ca.pem")).unwrap().swap_remove(0));
        assert!(leaf.is_signed_by(&ca));
        assert!(!leaf.is_signed_by(&other), "an authority of the same name and with another key");
        assert!(!leaf.is_authority());
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let ca = Authority::create("ca", validity(1)).unwrap();
        let signed = ca.sign("client", &[], Purpose::Client, validity(2)).unwrap();
        let leaf = read_all(&text(&signed.certificate, "cert.pem")).unwrap().swap_remove(0);
        let ca = read_all(&text(ca.certificate(), "ca.pem")).unwrap().swap_remove(0);
        assert_eq!(leaf.not_after(), ca.not_after());
    }

    #[test]
    fn what_is_no_authority_is_told_by_its_place() {
        let [ca, other] = [0; 2].map(|_| Authority::create("ca", validity(1)).unwrap());
        let leaf = ca.sign("client", &[], Purpose::Client, validity(1)).unwrap();
        let (key, others) = (ca.key(), other.key());
        for (certificate, key, words) in [
            (ca.certificate(), others.as_str(), "the certificate in c.pem and the key in k.pem can't be used together"),
            (ca.certificate(), "", "no private key in k.pem"),
            ("", key.as_str(), "no certificate in c.pem"),
            (leaf.certificate.as_str(), leaf.key.as_str(), "the certificate in c.pem is not that of an authority"),
        ] {
            let error = Authority::read(&text(certificate, "c.pem"), &text(key, "k.pem")).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
    }

    #[test]
    fn keys_are_in_no_debug_output() {
        let ca = Authority::create("ca", validity(1)).unwrap();
        let leaf = ca.sign("client", &[], Purpose::Client, validity(1)).unwrap();
        for shown in [format!("{ca:?}"), format!("{leaf:?}")] {
            assert!(shown.contains("CERTIFICATE") && !shown.contains("PRIVATE"), "{shown}");
        }
    }
}
