//! `ssh://`: a `buildkitd` behind a real ssh server.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::remote::Buildkitd;
use crate::support::call::{Call, Running};
use crate::support::clock::{seconds, wait_for};
use crate::support::contexts::BEGINS;
use crate::support::processes;
use crate::support::scene::Scene;
use crate::support::tools::{on_path, tools};

/// A server that lets one key in, on a port of this machine alone.
struct Server {
    port: u16,
    dir: PathBuf,
    _running: Running,
}

/// In mounts of its own: the machine need not have the user that the server becomes before it knows who is there.
const IN_OWN_MOUNTS: &str = "mount --make-rprivate / && mount --bind \"$1\" /etc/passwd && mount -t tmpfs none /run && \
                             mkdir /run/sshd && shift && exec \"$@\"";

impl Server {
    fn start(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("a directory of our own");
        let at = |name: &str| dir.join(name);
        for key in ["host-key", "key", "other-key"] {
            Call::new("ssh-keygen").words("-q -t ed25519 -N").arg("").arg("-f").arg(at(key)).succeeds();
        }
        fs::copy(at("key.pub"), at("authorized")).expect("a file of our own");
        let users = fs::read_to_string("/etc/passwd").expect("a machine has users");
        fs::write(at("passwd"), format!("{users}\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"))
            .expect("a file of our own");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        drop(listener);
        // What is in reach of a command that is no login shell: the directory is filled later.
        fs::create_dir_all(at("bin")).expect("a directory of our own");
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nSetEnv PATH={}:/bin\n",
            at("host-key").display(),
            at("authorized").display(),
            at("bin").display(),
        );
        fs::write(at("config"), config).expect("a file of our own");
        let deb =
            std::env::var_os("BUILDFLEET_RIG").map(|rig| Path::new(&rig).join("deb")).expect("the rig's variable");
        let program = deb.join("openssh-server/usr/sbin/sshd");
        assert!(program.is_file(), "no sshd: `scripts/cluster build ssh` unpacks it");
        let running = Call::new("unshare")
            .words("--mount -- /bin/sh -c")
            .arg(IN_OWN_MOUNTS)
            .arg("sh")
            .arg(at("passwd"))
            .arg(program)
            .words("-D -e -f")
            .arg(at("config"))
            .env("LD_LIBRARY_PATH", deb.join("libwrap0/usr/lib/x86_64-linux-gnu"))
            .within(seconds(300))
            .start();
        running.says("Server listening on");
        Self { port, dir: dir.to_owned(), _running: running }
    }

    fn has_buildctl(&self) {
        std::os::unix::fs::symlink(&tools().buildctl, self.dir.join("bin/buildctl")).expect("a directory of our own");
    }

    /// An `ssh` that uses this key and knows the server, or does not: as ~/.ssh/config would have it.
    fn client(&self, name: &str, key: &str, known: bool) -> PathBuf {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).expect("a directory of our own");
        let host_key = fs::read_to_string(self.dir.join("host-key.pub")).expect("it was made");
        let hosts = if known { format!("[127.0.0.1]:{} {host_key}", self.port) } else { String::new() };
        fs::write(dir.join("known"), hosts).expect("a file of our own");
        let config = format!(
            "Host build-box\n  HostName 127.0.0.1\n  Port {}\n  User root\nHost *\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {}\n",
            self.port,
            self.dir.join(key).display(),
            dir.join("known").display(),
        );
        fs::write(dir.join("config"), config).expect("a file of our own");
        let real = on_path("ssh").expect("openssh-client");
        let script = format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", real.display(), dir.join("config").display());
        fs::write(dir.join("ssh"), script).expect("a file of our own");
        fs::set_permissions(dir.join("ssh"), fs::Permissions::from_mode(0o755)).expect("a file of our own");
        dir
    }

    fn address(&self, socket: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, socket.display())
    }
}

/// Programs are found in `first`, then where they are found anyway.
fn look_first(scene: &mut Scene, first: &Path) {
    let path = std::env::var_os("PATH").expect("a PATH");
    let all = std::iter::once(first.to_owned()).chain(std::env::split_paths(&path));
    scene.set("PATH", PathBuf::from(std::env::join_paths(all).expect("no colons in it")));
}

#[test]
fn a_buildkitd_on_another_machine_is_reached_by_ssh_and_its_loss_is_overcome() {
    let mut scene = Scene::local();
    let server = Server::start(&scene.path("sshd"));
    let socket = scene.path("far.sock");
    let mut far = Buildkitd::start(&scene, &format!("unix://{}", socket.display()), "");
    let address = server.address(&socket);

    // What does not work says which of the many things it is, first in the words of ssh.
    look_first(&mut scene, &server.client("stranger", "key", false));
    for (first, wanted, hint) in [
        (None, "Host key verification failed", "known_hosts"),
        (Some(server.client("outsider", "other-key", true)), "Permission denied", "SSH_AUTH_SOCK"),
        (Some(server.client("friend", "key", true)), "buildctl: ", "buildctl has to be on the other side"),
    ] {
        if let Some(first) = first {
            scene.end_daemon();
            look_first(&mut scene, &first);
        }
        let create = format!("create --name far --driver remote --timeout 5s --bootstrap {address}");
        scene.buildfleet(&create).fails().says(wanted).says("by ssh").faster_than(seconds(20));
        scene.has_no_builder();
        scene.buildfleet(&format!("create --name far --driver remote {address}")).succeeds();
        scene.buildfleet("doctor far").fails().says(wanted).says(hint);
        scene.buildfleet("rm far").succeeds();
    }
    server.has_buildctl();

    // The same address as BuildKit's own client takes, and one that ~/.ssh/config knows.
    scene.buildctl("--addr").arg(&address).words("debug workers").succeeds();
    let builder = scene.create("far", &format!("--driver remote --bootstrap {address}"));
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    builder.buildx(&hello, "").succeeds().says("CACHED");
    assert_eq!(builder.pods()[0]["Transport"], "ssh");
    assert_eq!(builder.pods()[0]["Host"], "127.0.0.1");
    assert_eq!(builder.node(0)["Endpoint"], address);
    scene.buildfleet("doctor far").succeeds().says(&address);
    let alias = format!("ssh://build-box{}", socket.display());
    let second = scene.create("alias", &format!("--driver remote --bootstrap {alias}"));
    second.buildctl(&hello, "").succeeds().says("CACHED");
    second.remove();

    // docker's own builder at that address comes here, and goes back as it was.
    scene.buildx(&format!("create --name theirs --driver remote {address}")).succeeds();
    scene.buildfleet("import theirs").succeeds().says("theirs imported").says(&address);
    scene.builder("theirs").buildctl(&hello, "").succeeds().says("CACHED");
    scene.buildfleet("import theirs").fails().says("buildfleet's already");
    scene.buildfleet("export theirs").succeeds().says("theirs exported").says(&address);
    scene.buildx("inspect --bootstrap theirs").succeeds().says(&address).says("running");

    // Every connection is cut in the middle of a build, as by a network that forgets them.
    let slow = scene.contexts().slow("slow", 6);
    let build = builder.buildctl(&slow, "").start();
    build.says(BEGINS);
    let ours = format!("-p {} -- 127.0.0.1", server.port);
    let cut = processes::that_run(&ours);
    assert!(!cut.is_empty(), "the daemon has no ssh");
    // The daemon ends the others itself once it has seen the end of one.
    let killed = cut.iter().filter(|process| processes::try_kill(process.pid).is_ok()).count();
    assert!(killed > 0, "the daemon's ssh ended before");
    build.end().succeeded().says("starting again on");

    builder.remove();
    wait_for("the end of all connections", seconds(10), || processes::that_run(&ours).is_empty().then_some(()));
    assert!(far.runs(), "rm ended a buildkitd that is not ours");
}
