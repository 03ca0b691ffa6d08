//! Certificates for what others run: a `buildkitd`, a registry.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// PEM files of one authority, a server and a client.
#[derive(Debug)]
pub(crate) struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// `hosts` are the addresses of the server.
    pub(crate) fn make(dir: PathBuf, hosts: &[&str]) -> Self {
        fs::create_dir_all(&dir).expect("a directory of our own");
        let mut params = named("test authority", vec![]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("an authority");
        fs::write(dir.join("ca.pem"), certificate.pem()).expect("a file of our own");
        let authority = Issuer::new(params, key);
        let pki = Self { dir };
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        pki.sign(&authority, "server", hosts, ExtendedKeyUsagePurpose::ServerAuth);
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
