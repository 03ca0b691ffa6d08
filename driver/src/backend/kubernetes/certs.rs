//! The certificates of one node: a CA that signs twice and is forgotten, one certificate for its pods, one for daemons.
//!
//! They are made when the node's Secret is, and hold for two years; an `apply` within the last 30 days makes new ones.

use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use tokio_rustls::TlsConnector;

use crate::backend::BoxError;
use crate::certificates::{self, Authority, ClientPair, Purpose, SignError, SubjectName, Text, Validity, Versions};
use crate::manifest::{CertificateSet, NOT_AFTER_ANNOTATION, TLS_SERVER_NAME};

const LIFETIME: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// Makes a new set that holds from `now`.
pub(super) fn generate(node: &str, now: SystemTime) -> Result<CertificateSet, SignError> {
    let validity = Validity::starting(now, LIFETIME);
    // Its key lives until the end of this function: nobody can sign a third certificate.
    let authority = Authority::create(&format!("buildfleet node {node}"), validity)?;
    let name = SubjectName::Dns(TLS_SERVER_NAME.to_owned());
    let daemon = authority.sign("buildkitd", &[name], Purpose::Server, validity)?;
    let client = authority.sign("buildfleet", &[], Purpose::Client, validity)?;
    Ok(CertificateSet {
        ca: authority.certificate().to_owned(),
        daemon_cert: daemon.certificate,
        daemon_key: daemon.key,
        client_cert: client.certificate,
        client_key: client.key,
        not_after: rfc3339(validity.not_after()),
    })
}

fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX).to_string()
}

/// Whether certificates that end at `not_after` should be replaced now. What is no time is replaced too.
pub(super) fn is_due(not_after: &str, now: SystemTime) -> bool {
    let Ok(end) = not_after.parse::<Timestamp>() else { return true };
    certificates::is_due(SystemTime::from(end), now)
}

/// The set in a Secret, if it is whole.
pub(super) fn from_secret(secret: &Secret) -> Option<CertificateSet> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| {
        let ByteString(bytes) = data.get(key)?;
        String::from_utf8(bytes.clone()).ok().filter(|text| text.contains("-----BEGIN"))
    };
    let annotations = secret.metadata.annotations.as_ref()?;
    let not_after = annotations.get(NOT_AFTER_ANNOTATION)?.clone();
    Some(CertificateSet {
        ca: text("ca.pem")?,
        daemon_cert: text("cert.pem")?,
        daemon_key: text("key.pem")?,
        client_cert: text("client-cert.pem")?,
        client_key: text("client-key.pem")?,
        not_after,
    })
}

fn text<'a>(pem: &'a str, key: &str) -> Text<'a> {
    Text { text: pem.as_bytes(), place: format!("{key} of the node's certificates") }
}

/// TLS as a daemon speaks it with the node's pods.
pub(super) fn connector(certificates: &CertificateSet) -> Result<TlsConnector, BoxError> {
    let client = ClientPair {
        certificate: text(&certificates.client_cert, "client-cert.pem"),
        key: text(&certificates.client_key, "client-key.pem"),
    };
    Ok(certificates::connector(&text(&certificates.ca, "ca.pem"), Some(&client), Versions::Newest)?)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::{RootCertStore, ServerConfig};

    use super::*;

    fn now() -> SystemTime {
        SystemTime::now()
    }

    /// A server as `buildkitd --tlscacert --tlscert --tlskey` is one: it demands a certificate of the same CA.
    fn acceptor(set: &CertificateSet) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(set.ca.as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let certificate = CertificateDer::from_pem_slice(set.daemon_cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(set.daemon_key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// A daemon with `client` asks a pod with `server` for an echo, under `name`.
    async fn echo(server: &CertificateSet, client: &CertificateSet, name: &'static str) -> io::Result<Vec<u8>> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let acceptor = acceptor(server);
        let pod = async move {
            let mut stream = acceptor.accept(theirs).await?;
            let mut data = [0; 4];
            stream.read_exact(&mut data).await?;
            stream.write_all(&data).await?;
            stream.flush().await
        };
        let connector = connector(client).unwrap();
        let daemon = async move {
            let mut stream = connector.connect(ServerName::try_from(name).unwrap(), ours).await?;
            stream.write_all(b"ping").await?;
            stream.flush().await?;
            let mut data = vec![0; 4];
            stream.read_exact(&mut data).await?;
            Ok(data)
        };
        tokio::join!(pod, daemon).1
    }

    #[tokio::test]
    async fn a_daemon_and_a_pod_of_one_set_trust_each_other() {
        let set = generate("kube0", now()).unwrap();
        assert_eq!(echo(&set, &set, TLS_SERVER_NAME).await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn nobody_else_is_trusted() {
        let (ours, others) = (generate("kube0", now()).unwrap(), generate("kube0", now()).unwrap());
        // A pod with another CA.
        assert!(echo(&others, &ours, TLS_SERVER_NAME).await.is_err());
        // A daemon with another CA that knows ours.
        let intruder = CertificateSet { ca: ours.ca.clone(), ..others.clone() };
        assert!(echo(&ours, &intruder, TLS_SERVER_NAME).await.is_err());
        // The pods' certificate is not one for daemons, nor the other way round: RUN steps can read neither, pods only theirs.
        let swapped = CertificateSet {
            client_cert: ours.daemon_cert.clone(),
            client_key: ours.daemon_key.clone(),
            ..ours.clone()
        };
        assert!(echo(&ours, &swapped, TLS_SERVER_NAME).await.is_err());
        let swapped = CertificateSet {
            daemon_cert: ours.client_cert.clone(),
            daemon_key: ours.client_key.clone(),
            ..ours.clone()
        };
        assert!(echo(&swapped, &ours, TLS_SERVER_NAME).await.is_err());
        // Another name than the one that is agreed on.
        assert!(echo(&ours, &ours, "kubernetes.default.svc").await.is_err());
        // What has ended.
        let ended = generate("kube0", now() - LIFETIME - Duration::from_secs(60 * 60)).unwrap();
        assert!(echo(&ended, &ended, TLS_SERVER_NAME).await.is_err());
    }

    #[test]
    fn a_set_is_due_before_it_ends() {
        let day = Duration::from_secs(24 * 60 * 60);
        let set = generate("kube0", now()).unwrap();
        for (later, due) in
            [(Duration::ZERO, false), (LIFETIME - 31 * day, false), (LIFETIME - 29 * day, true), (LIFETIME, true)]
        {
            assert_eq!(is_due(&set.not_after, now() + later), due, "after {} days", later.as_secs() / day.as_secs());
        }
        for no_time in ["", "soon", "2026-13-01T00:00:00Z"] {
            assert!(is_due(no_time, now()), "{no_time}");
        }
    }

    fn secret(entries: &[(&str, &str)], annotations: &[(&str, &str)]) -> Secret {
        let data = entries.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
        let annotations = annotations.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        Secret {
            metadata: ObjectMeta { annotations: Some(annotations.collect()), ..ObjectMeta::default() },
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_secret_is_read_back_only_when_it_is_whole() {
        let set = generate("kube0", now()).unwrap();
        let entries = [
            ("ca.pem", set.ca.as_str()),
            ("cert.pem", &set.daemon_cert),
            ("key.pem", &set.daemon_key),
            ("client-cert.pem", &set.client_cert),
            ("client-key.pem", &set.client_key),
        ];
        let annotations = [(NOT_AFTER_ANNOTATION, set.not_after.as_str())];
        assert_eq!(from_secret(&secret(&entries, &annotations)), Some(set.clone()));
        for missing in 0..entries.len() {
            let rest: Vec<_> =
                entries.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, entry)| *entry).collect();
            assert_eq!(from_secret(&secret(&rest, &annotations)), None, "without {}", entries[missing].0);
            let mut spoilt = entries;
            spoilt[missing].1 = "nothing";
            assert_eq!(from_secret(&secret(&spoilt, &annotations)), None, "spoilt {}", entries[missing].0);
        }
        assert_eq!(from_secret(&secret(&entries, &[])), None);
        assert_eq!(from_secret(&Secret::default()), None);
    }
}
