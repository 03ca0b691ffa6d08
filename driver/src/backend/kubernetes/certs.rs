//! The certificates of one node: a CA that signs twice and is forgotten, one certificate for its pods, one for daemons.
//!
//! They are made when the node's Secret is, and hold for two years; an `apply` within the last 30 days makes new ones.

use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

use crate::manifest::{CertificateSet, TLS_SERVER_NAME};

const LIFETIME: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// Old enough for a pod whose clock is behind ours.
const BACKDATED: Duration = Duration::from_secs(60 * 60);
/// How long before their end certificates are replaced.
const RENEWED_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Makes a new set that holds from `now`.
pub(super) fn generate(node: &str, now: SystemTime) -> Result<CertificateSet, rcgen::Error> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Whole seconds, as X.509 counts.
    let since_epoch = Duration::from_secs(since_epoch.as_secs());
    let epoch = date_time_ymd(1970, 1, 1);
    let not_before = epoch + since_epoch.saturating_sub(BACKDATED);
    let not_after = epoch + since_epoch + LIFETIME;
    let params = |common_name: &str, names: Vec<String>| {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.not_before = not_before;
        params.not_after = not_after;
        Ok::<_, rcgen::Error>(params)
    };
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);

    let mut authority = params(&format!("buildfleet node {node}"), Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // The key lives until the end of this function: nobody can sign a third certificate.
    let authority = CertifiedIssuer::self_signed(authority, key()?)?;

    let leaf = |name: &str, names: Vec<String>, usage: ExtendedKeyUsagePurpose| {
        let mut leaf = params(name, names)?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![usage];
        leaf.use_authority_key_identifier_extension = true;
        let key = key()?;
        Ok::<_, rcgen::Error>((leaf.signed_by(&key, &authority)?.pem(), key.serialize_pem()))
    };
    let (daemon_cert, daemon_key) =
        leaf("buildkitd", vec![TLS_SERVER_NAME.to_owned()], ExtendedKeyUsagePurpose::ServerAuth)?;
    let (client_cert, client_key) = leaf("buildfleet", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
    Ok(CertificateSet {
        ca: authority.pem(),
        daemon_cert,
        daemon_key,
        client_cert,
        client_key,
        not_after: rfc3339(since_epoch + LIFETIME),
    })
}

fn rfc3339(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

/// Whether certificates that end at `not_after` should be replaced now. What is no time is replaced too.
pub(super) fn is_due(not_after: &str, now: SystemTime) -> bool {
    let Ok(end) = not_after.parse::<Timestamp>() else { return true };
    SystemTime::from(end) < now + RENEWED_BEFORE
}

/// The set in a Secret, if it is whole. The end is looked for in every annotation that is named after it.
pub(super) fn from_secret(secret: &Secret) -> Option<CertificateSet> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| {
        let ByteString(bytes) = data.get(key)?;
        String::from_utf8(bytes.clone()).ok().filter(|text| text.contains("-----BEGIN"))
    };
    let annotations = secret.metadata.annotations.as_ref()?;
    let not_after = annotations.iter().find(|(key, _)| key.ends_with("/not-after"))?.1.clone();
    Some(CertificateSet {
        ca: text("ca.pem")?,
        daemon_cert: text("cert.pem")?,
        daemon_key: text("key.pem")?,
        client_cert: text("client-cert.pem")?,
        client_key: text("client-key.pem")?,
        not_after,
    })
}
