//! The remote backend over real sockets: plain, and with TLS against a server that asks for certificates.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buildfleet::backend::remote::RemoteBackend;
use buildfleet::backend::{Backend, DialError, LogsError, LogsWanted, PodPhase, Removal, Transport};
use buildfleet::builder::{Driver, Endpoint, Node, PodName, RemoteAddress};
use buildfleet::options::DriverOptions;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const NAME: &str = "buildkitd.example";

fn backend(address: &str, options: &[(&str, String)]) -> RemoteBackend {
    let address: RemoteAddress = address.parse().unwrap();
    let driver_opts: BTreeMap<_, _> = options.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
    let node = Node {
        name: "far".parse().unwrap(),
        endpoint: Endpoint::Remote(address.clone()),
        driver_opts,
        platforms: Vec::new(),
        buildkitd_flags: Vec::new(),
        config: None,
    };
    match DriverOptions::parse(Driver::Remote, &node.driver_opts) {
        Ok(DriverOptions::Remote(options)) => RemoteBackend::start(node, address, options),
        other => panic!("{other:?}"),
    }
}

fn far() -> PodName {
    "far".parse().unwrap()
}

/// A certificate authority, and what it has signed.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    ca: rcgen::Certificate,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key), ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.ca.pem()
    }

    /// Files of a client, and the options that name them.
    pub(crate) fn client(&self) -> Vec<(&'static str, String)> {
        let (certificate, key) = self.sign("client");
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        vec![
            ("cacert", self.text("ca.pem")),
            ("cert", self.text("cert.pem")),
            ("key", self.text("key.pem")),
            ("servername", NAME.to_owned()),
        ]
    }

    /// A server that says `hello` to peers with a certificate of this authority who ask for HTTP/2; its address.
    async fn serve(&self) -> (String, tokio::task::JoinSet<()>) {
        let (certificate, key) = self.sign(NAME);
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let _ = tls.write_all(b"hello").await;
                    let _ = tls.shutdown().await;
                }
            }
        });
        (address, tasks)
    }
}

async fn hear(backend: &RemoteBackend) -> std::io::Result<String> {
    let mut dialed = backend.dial(&far()).await.unwrap();
    let mut heard = String::new();
    dialed.stream.read_to_string(&mut heard).await?;
    Ok(heard)
}

async fn refusal(backend: &RemoteBackend) -> String {
    buildfleet::report::chain(&backend.dial(&far()).await.unwrap_err())
}

#[tokio::test]
async fn its_one_pod_is_there_and_orders_change_nothing() {
    let backend = backend("unix:///nowhere/buildkitd.sock", &[]);
    let before = backend.pods().borrow().clone();
    assert!(before.known && before.applied);
    assert_eq!((before.pods[0].name.as_str(), before.pods[0].phase), ("far", PodPhase::Running));
    backend.apply(0).await.unwrap();
    backend.delete(Removal::default()).await.unwrap();
    assert_eq!(*backend.pods().borrow(), before);
    let wanted = LogsWanted { follow: false, tail: None };
    assert!(matches!(backend.logs(&far(), wanted).await, Err(LogsError::Unsupported(_))));
    let other: PodName = "far-0".parse().unwrap();
    assert!(matches!(backend.dial(&other).await, Err(DialError::Gone(_))));
    assert!(matches!(backend.logs(&other, wanted).await, Err(LogsError::Gone(_))));
}

#[tokio::test]
async fn unix_and_plain_tcp_are_dialled() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // A name, so that it has to be resolved.
    let by_name = format!("tcp://localhost:{}", tcp.local_addr().unwrap().port());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { unix.accept().await.unwrap().0.write_all(b"by unix").await.unwrap() });
    tasks.spawn(async move { tcp.accept().await.unwrap().0.write_all(b"by tcp").await.unwrap() });
    for (address, heard, transport) in
        [(format!("unix://{}", path.display()), "by unix", Transport::Unix), (by_name, "by tcp", Transport::Tcp)]
    {
        let backend = backend(&address, &[]);
        let mut dialed = backend.dial(&far()).await.unwrap();
        let mut text = String::new();
        dialed.stream.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), dialed.transport), (heard, transport));
    }
}

#[tokio::test]
async fn tls_with_a_client_certificate_reaches_a_server_that_wants_one() {
    let authority = Authority::new();
    let (address, _tasks) = authority.serve().await;
    assert_eq!(hear(&backend(&address, &authority.client())).await.unwrap(), "hello");
}

#[tokio::test]
async fn renewed_files_need_no_restart() {
    let authority = Authority::new();
    let (address, _tasks) = authority.serve().await;
    let client = authority.client();
    let good = std::fs::read(authority.path("cert.pem")).unwrap();
    std::fs::write(authority.path("cert.pem"), "").unwrap();
    let backend = backend(&address, &client);
    let said = refusal(&backend).await;
    assert!(said.contains(&format!("no certificate in {}", authority.text("cert.pem"))), "{said}");
    assert!(said.contains(&address), "{said}");
    std::fs::write(authority.path("cert.pem"), good).unwrap();
    assert_eq!(hear(&backend).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (address, _tasks) = authority.serve().await;
    let swap = |key: &str, value: String| {
        let swapped = authority.client().into_iter().map(|(given, old)| match given == key {
            true => (given, value.clone()),
            false => (given, old),
        });
        swapped.collect::<Vec<_>>()
    };
    for options in [swap("cacert", stranger.text("ca.pem")), swap("servername", "other.example".to_owned())] {
        let said = refusal(&backend(&address, &options)).await;
        let wanted =
            format!("failed to reach pod far by tcp: failed to speak TLS with {address}: invalid peer certificate");
        assert!(said.starts_with(&wanted), "{said}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_hears_nothing() {
    let authority = Authority::new();
    let (address, _tasks) = authority.serve().await;
    let options = [("cacert", authority.text("ca.pem")), ("servername", NAME.to_owned())];
    // TLS 1.3 tells the client of it with its first read.
    assert!(hear(&backend(&address, &options)).await.is_err());
}

#[tokio::test]
async fn what_does_not_answer_is_told_with_its_address() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [format!("tcp://{closed}"), "unix:///nowhere/b.sock".to_owned()] {
        let said = refusal(&backend(&address, &[])).await;
        assert!(said.contains(&format!("failed to connect to {address}: ")), "{said}");
    }
    // Its kernel accepts, and nobody speaks.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    let authority = Authority::new();
    let mut options = authority.client();
    options.push(("timeout", "1s".to_owned()));
    let begun = std::time::Instant::now();
    let said = refusal(&backend(&address, &options)).await;
    assert!(said.ends_with(&format!("{address} did not answer in TLS in 1 s")), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(4));
}
