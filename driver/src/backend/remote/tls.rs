//! The TLS side of a remote `buildkitd`: PEM files into a connector.

use std::path::{Path, PathBuf};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};

use crate::certificates::{self, ClientPair, Text, Versions};
use crate::options::RemoteTls;

/// Why the files make no TLS.
#[derive(Debug, thiserror::Error)]
pub(in crate::backend) enum TlsError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Contents(#[from] certificates::TlsError),
    #[error("`{name}` is no name that a certificate can have")]
    ServerName {
        name: String,
        #[source]
        source: InvalidDnsNameError,
    },
}

/// A connector out of the files, and the name to look for in the certificate of `host`.
pub(in crate::backend) async fn connector(
    files: &RemoteTls,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
    let name = files.servername.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|source| TlsError::ServerName { name: name.to_owned(), source })?;
    let ca = read(&files.ca).await?;
    let pair = match &files.client {
        None => None,
        Some((certificate, key)) => Some(((certificate, read(certificate).await?), (key, read(key).await?))),
    };
    let client = pair.as_ref().map(|((certificate, certificate_text), (key, key_text))| ClientPair {
        certificate: text(certificate, certificate_text),
        key: text(key, key_text),
    });
    let connector = certificates::connector(&text(&files.ca, &ca), client.as_ref(), Versions::Safe)?;
    Ok((connector, name))
}

fn text<'a>(path: &Path, text: &'a [u8]) -> Text<'a> {
    Text { text, place: path.display().to_string() }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec!["b".to_owned()]).unwrap().self_signed(&key).unwrap();
            files.write("cert.pem", &certificate.pem());
            files.write("key.pem", &key.serialize_pem());
            files.write("other-key.pem", &KeyPair::generate().unwrap().serialize_pem());
            files.write("empty.pem", "no PEM\n");
            files.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
            files.write("wrong.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
            files
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn tls(&self, ca: &str, client: Option<(&str, &str)>, servername: Option<&str>) -> RemoteTls {
            let client = client.map(|(cert, key)| (self.path(cert), self.path(key)));
            RemoteTls { ca: self.path(ca), client, servername: servername.map(str::to_owned) }
        }
    }

    #[tokio::test]
    async fn a_ca_is_enough_and_a_pair_may_be_added() {
        let files = Files::new();
        for (client, servername, name) in [
            (None, None, "builder.example"),
            (Some(("cert.pem", "key.pem")), None, "builder.example"),
            (None, Some("b"), "b"),
            (None, Some("10.0.0.1"), "10.0.0.1"),
        ] {
            let tls = files.tls("cert.pem", client, servername);
            let (_, found) = connector(&tls, "builder.example").await.unwrap();
            assert_eq!(found.to_str(), name);
        }
    }

    #[tokio::test]
    async fn each_thing_that_is_wrong_names_its_file() {
        let files = Files::new();
        for (ca, client, servername, words) in [
            ("none.pem", None, None, "failed to read DIR/none.pem"),
            ("empty.pem", None, None, "no certificate in DIR/empty.pem"),
            ("key.pem", None, None, "no certificate in DIR/key.pem"),
            ("broken.pem", None, None, "failed to read the certificate in DIR/broken.pem"),
            ("wrong.pem", None, None, "the certificate in DIR/wrong.pem can't be used as a CA"),
            ("cert.pem", Some(("none.pem", "key.pem")), None, "failed to read DIR/none.pem"),
            ("cert.pem", Some(("cert.pem", "cert.pem")), None, "no private key in DIR/cert.pem"),
            (
                "cert.pem",
                Some(("cert.pem", "other-key.pem")),
                None,
                "the certificate in DIR/cert.pem and the key in DIR/other-key.pem can't be used together",
            ),
            ("cert.pem", None, Some("a b"), "`a b` is no name that a certificate can have"),
        ] {
            let error = connector(&files.tls(ca, client, servername), "b").await.err().unwrap();
            let words = words.replace("DIR", &files.0.path().display().to_string());
            assert_eq!(error.to_string(), words);
        }
    }
}
