//! What builds need of the world around them, as real programs in the cluster's network: a registry that wants TLS and a
//! password, servers of git and HTTP, an agent with a key.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use super::call::{Call, Running};
use super::clock::{seconds, wait_for};
use super::pki::Pki;
use super::tools::{cluster, of_package, on_path};

/// Longer than any test: a service ends when it goes out of sight.
const TEST: std::time::Duration = seconds(600);

/// The only user of a [`Registry`].
pub(crate) const USER: &str = "pusher";
pub(crate) const PASSWORD: &str = "lets-push";
/// By bcrypt, the only kind that the registry takes; with little work, for a test.
const HASH: &str = "$2b$05$qRh/P0Q9fXTTsFAB20ypn.GFLd9t5CTq/XZMFXTrhMtLw0lmycMNm";

/// An address of the cluster's network that its pods reach, and that nobody listened on a moment ago.
fn free_address() -> SocketAddr {
    let host = cluster().registry.split(':').next().expect("the registry has a host");
    let listener = TcpListener::bind((host, 0)).expect("the tests run in the cluster's network");
    listener.local_addr().expect("an address")
}

fn listens(what: &str, address: SocketAddr) {
    wait_for(what, seconds(20), || TcpStream::connect(address).ok());
}

fn installed(program: &str) -> PathBuf {
    on_path(program).unwrap_or_else(|| panic!("no {program} on PATH: it comes with git and openssh-client"))
}

/// A registry with TLS, by an authority that nobody knows, and with one user.
#[derive(Debug)]
pub(crate) struct Registry {
    address: SocketAddr,
    pki: Pki,
    _running: Running,
}

impl Registry {
    pub(crate) fn start(dir: &Path) -> Self {
        let address = free_address();
        let pki = Pki::make(dir.join("pki"), &[&address.ip().to_string()]);
        let (users, config) = (dir.join("users"), dir.join("registry.yaml"));
        fs::write(&users, format!("{USER}:{HASH}\n")).expect("a file of our own");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\", tls: {{certificate: {}, key: {}}}}}\n\
             auth: {{htpasswd: {{realm: buildfleet, path: {}}}}}\n",
            dir.join("images").display(),
            pki.certificate("server").display(),
            pki.key("server").display(),
            users.display(),
        );
        fs::write(&config, text).expect("a file of our own");
        let program = of_package("docker-registry", "docker-registry");
        let running = Call::new(program).arg("serve").arg(&config).within(TEST).start();
        listens("the registry with a password", address);
        Self { address, pki, _running: running }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}:1", self.address)
    }

    /// The certificate of its authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.pki.authority()
    }

    /// Like the end of `docker login`.
    pub(crate) fn log_in(&self, docker_config: &Path) {
        use base64::Engine;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let config = serde_json::json!({ "auths": { self.host(): { "auth": auth } } });
        fs::write(docker_config.join("config.json"), config.to_string()).expect("a file of our own");
    }

    pub(crate) fn log_out(docker_config: &Path) {
        fs::remove_file(docker_config.join("config.json")).expect("somebody is logged in");
    }
}

/// A git server with one repository.
#[derive(Debug)]
pub(crate) struct Git {
    address: SocketAddr,
    dir: PathBuf,
    _running: Running,
}

impl Git {
    /// Serves what is in the directory, in one commit on `main`.
    pub(crate) fn serve(dir: &Path, contents: &Path) -> Self {
        let bare = dir.join("project.git");
        fs::create_dir_all(&bare).expect("a directory of our own");
        let git = |words: &str| {
            Call::new(installed("git"))
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .words("-c user.name=tester -c user.email=tester@localhost -c init.defaultBranch=main --git-dir")
                .arg(&bare)
                .arg("--work-tree")
                .arg(contents)
                .words(words)
                .dir(contents)
        };
        git("init --quiet").succeeds();
        git("add --all").succeeds();
        git("commit --quiet --message first").succeeds();
        let address = free_address();
        let daemon = Call::new(installed("git"))
            .words("daemon --export-all --reuseaddr")
            .arg(format!("--base-path={}", dir.display()))
            .arg(format!("--listen={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg(dir);
        let running = daemon.within(TEST).start();
        listens("the git server", address);
        Self { address, dir: bare, _running: running }
    }

    pub(crate) fn url(&self) -> String {
        format!("git://{}/project.git", self.address)
    }

    /// The commit that `main` is at.
    pub(crate) fn commit(&self) -> String {
        Call::new(installed("git")).arg("--git-dir").arg(&self.dir).words("rev-parse main").succeeds().word().to_owned()
    }
}

/// A web server for the files of a directory.
#[derive(Debug)]
pub(crate) struct Web {
    address: SocketAddr,
    _running: Running,
}

impl Web {
    /// By busybox, which the contexts have anyway.
    pub(crate) fn serve(dir: &Path, busybox: &Path) -> Self {
        let address = free_address();
        let running = Call::new(busybox).words(&format!("httpd -f -p {address} -h")).arg(dir).within(TEST).start();
        listens("the web server", address);
        Self { address, _running: running }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// An ssh agent with one key.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
    key: PathBuf,
    fingerprint: String,
    _running: Running,
}

impl Agent {
    pub(crate) fn start(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("a directory of our own");
        let (socket, key) = (dir.join("agent.sock"), dir.join("key"));
        Call::new(installed("ssh-keygen")).words("-q -t ed25519 -C tester -N").arg("").arg("-f").arg(&key).succeeds();
        let running = Call::new(installed("ssh-agent")).words("-D -a").arg(&socket).within(TEST).start();
        wait_for("the agent", seconds(10), || socket.exists().then_some(()));
        Call::new(installed("ssh-add")).arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).succeeds();
        let shown = Call::new(installed("ssh-keygen")).arg("-lf").arg(&key).succeeds();
        let fingerprint = shown.word().split(' ').nth(1).expect("a fingerprint").to_owned();
        Self { socket, key, fingerprint, _running: running }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The file of its only key.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    pub(crate) fn public_key(&self) -> PathBuf {
        self.key.with_extension("pub")
    }

    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}
