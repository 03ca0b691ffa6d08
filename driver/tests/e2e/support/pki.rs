//! Certificates for a `buildkitd` that somebody else runs.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// PEM files of one authority, a server for 127.0.0.1 and a client.
#[derive(Debug)]
pub(crate) struct Pki {
    dir: PathBuf,
}

impl Pki {
    pub(crate) fn make(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).expect("a directory of our own");
        let mut params = named("test authority", vec![]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("an authority");
        fs::write(dir.join("ca.pem"), certificate.pem()).expect("a file of our own");
        let authority = Issuer::new(params, key);
        let pki = Self { dir };
        pki.sign(&authority, "server", vec!["127.0.0.1".to_owned()], ExtendedKeyUsagePurpose::ServerAuth);
        pki.sign(&authority, "client", vec!["client".to_owned()], ExtendedKeyUsagePurpose::ClientAuth);
        pki
    }

    fn sign(&self, by: &Issuer<'_, KeyPair>, name: &str, hosts: Vec<String>, usage: ExtendedKeyUsagePurpose) {
        let mut params = named(name, hosts);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, by).expect("a certificate");
        fs::write(self.certificate(name), certificate.pem()).expect("a file of our own");
        fs::write(self.key(name), key.serialize_pem()).expect("a file of our own");
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pem"))
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-key.pem"))
    }
}

fn named(name: &str, hosts: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
