//! The local backend over a `buildkitd` made of a few lines of shell: starts, crashes, ends, and what is left.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use buildfleet::backend::local::{LocalBackend, Machine};
use buildfleet::backend::{
    ApplyError, Backend, DialError, LogsError, LogsWanted, PodPhase, Pods, Removal, Removed, Transport,
};
use buildfleet::builder::{BuildkitdConfig, Driver, Endpoint, Node, PodName};
use buildfleet::options::DriverOptions;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

mod course;

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers SIGTERM, as `buildkitd` does, and writes its process id and command line where the test finds them.
const OBEDIENT: &str = r#"trap 'echo terminated; exit 1' TERM
echo "started $*"; echo $$ >"$root/pid"
while :; do sleep 0.05; done"#;

/// A machine's programs and directories.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// `body` runs with `$root` set, as the value of `--root`.
    fn new(body: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.program("unshare", "while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"");
        place.program("runc", "exit 1");
        place.program("buildkitd", &format!("root=$2\n{body}"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        let file = self.path("bin").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        // Written aside: another test's fork may hold a file open for writing, and an open file can't be run.
        let aside = file.with_extension("new");
        std::fs::write(&aside, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{body}\n")).unwrap();
        std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(aside, file).unwrap();
    }

    fn backend(&self, flags: &[&str]) -> LocalBackend {
        self.configured(flags, None)
    }

    fn configured(&self, flags: &[&str], config: Option<BuildkitdConfig>) -> LocalBackend {
        let supervise: Vec<OsString> = vec![env!("CARGO_BIN_EXE_buildfleet").into(), "supervise-child".into()];
        let machine = Machine::this().with_programs(vec![self.path("bin")], true).with_supervise(supervise);
        let node = Node {
            name: "lap".parse().unwrap(),
            endpoint: Endpoint::Local,
            driver_opts: BTreeMap::new(),
            platforms: Vec::new(),
            buildkitd_flags: flags.iter().map(ToString::to_string).collect(),
            config,
        };
        let Ok(DriverOptions::Local(options)) = DriverOptions::parse(Driver::Local, &node.driver_opts) else {
            panic!("no options are fine");
        };
        let term = Duration::from_millis(500);
        LocalBackend::start_on(machine, term, node, options, self.path("state/lap"), self.path("run/lap"))
    }

    /// The process id that the pod's `buildkitd` wrote into its root.
    async fn pid(&self, index: u32) -> i32 {
        let file = self.path(&format!("state/lap/{index}/root/pid"));
        eventually(|| std::fs::read_to_string(&file).ok()?.trim().parse().ok()).await
    }
}

async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "it did not happen in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until(backend: &LocalBackend, wanted: impl FnMut(&Pods) -> bool) -> Pods {
    let mut pods = backend.pods();
    let seen = tokio::time::timeout(PATIENCE, pods.wait_for(wanted)).await;
    match seen {
        Ok(seen) => seen.unwrap().clone(),
        Err(_) => panic!("the pods are still {:?}", backend.pods().borrow()),
    }
}

/// Not even a zombie is left.
fn is_gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn pod(name: &str) -> PodName {
    name.parse().unwrap()
}

fn names(pods: &Pods) -> Vec<&str> {
    pods.pods.iter().map(|pod| pod.name.as_str()).collect()
}

async fn log_of(backend: &LocalBackend, name: &str, tail: Option<u32>) -> String {
    let stream = backend.logs(&pod(name), LogsWanted { follow: false, tail }).await.unwrap();
    let chunks: Vec<_> = stream.map(|chunk| chunk.unwrap()).collect().await;
    String::from_utf8(chunks.concat()).unwrap()
}

#[tokio::test]
async fn as_many_processes_run_as_are_wanted() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&["--debug"]);
    assert_eq!(*backend.pods().borrow(), Pods { known: true, ..Pods::default() });

    backend.apply(2).await.unwrap();
    let pods = until(&backend, |pods| pods.pods.len() == 2).await;
    assert_eq!(names(&pods), ["lap-0", "lap-1"]);
    let (first, second) = (place.pid(0).await, place.pid(1).await);
    let line = eventually(|| std::fs::read_to_string(place.path("state/lap/1/buildkitd.log")).ok()).await;
    let socket = place.path("run/lap/1.sock");
    assert!(
        line.contains(&format!("--addr unix://{}", socket.display())) && line.trim().ends_with("--debug"),
        "{line}"
    );
    let mode = place.path("run/lap").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    backend.apply(2).await.unwrap();
    assert_eq!(place.pid(0).await, first, "the same order again starts nothing");
    backend.apply(1).await.unwrap();
    let pods = until(&backend, |pods| pods.pods.len() == 1).await;
    assert_eq!((names(&pods), pods.applied), (vec!["lap-0"], true));
    assert_eq!(pods.ended[&pod("lap-1")].to_string(), "stopped");
    assert!(is_gone(second) && !is_gone(first));

    backend.apply(0).await.unwrap();
    let pods = until(&backend, |pods| pods.pods.is_empty()).await;
    assert!(is_gone(first) && pods.applied);
    assert!(place.path("state/lap/0/root").exists(), "the cache outlives a stop");
}

#[tokio::test]
async fn buildkitd_is_pointed_to_its_configuration_whose_keys_nobody_else_can_read() {
    let place = Place::new(OBEDIENT);
    let toml = "[registry.r]\nca = [\"ca.pem\"]\n";
    let config = BuildkitdConfig::read(toml, |name| Ok(format!("the content of {name}"))).unwrap();
    let backend = place.configured(&["--debug"], Some(config));
    backend.apply(1).await.unwrap();
    place.pid(0).await;
    let directory = place.path("state/lap/config");
    let line = eventually(|| std::fs::read_to_string(place.path("state/lap/0/buildkitd.log")).ok()).await;
    let toml = directory.join("buildkitd.toml");
    assert!(line.trim().ends_with(&format!("--debug --config {}", toml.display())), "{line}");
    assert!(!line.contains("/dev/null"), "{line}");
    let certificate = directory.join("certs/r/ca.pem");
    assert!(std::fs::read_to_string(&toml).unwrap().contains(certificate.to_str().unwrap()));
    assert_eq!(std::fs::read_to_string(&certificate).unwrap(), "the content of ca.pem");
    for (path, wanted) in [(directory.as_path(), 0o700), (certificate.as_path(), 0o600), (toml.as_path(), 0o600)] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, wanted, "{path:?}");
    }
    backend.delete(Removal::default()).await.unwrap();
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_pod_that_is_wanted_again_while_it_ends_is_started_after_its_end() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    let first = place.pid(0).await;
    backend.apply(0).await.unwrap();
    backend.apply(1).await.unwrap();
    let pods =
        until(&backend, |pods| pods.pods.iter().any(|pod| pod.phase == PodPhase::Running && pod.incarnation == 2))
            .await;
    assert_eq!(names(&pods), ["lap-0"]);
    assert!(pods.ended.is_empty() && is_gone(first));
}

#[tokio::test]
async fn a_crash_is_told_and_followed_by_another_start() {
    let crash_once = r#"[ -e "$root/again" ] && { echo fine; exec sleep 600; }
echo >"$root/again"; echo "reading the cache"; echo "the cache is broken" >&2; exit 3"#;
    let place = Place::new(crash_once);
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();

    let pods = until(&backend, |pods| pods.pods.iter().any(|pod| pod.phase == PodPhase::Failed)).await;
    let end = pods.pods[0].last_end.clone().unwrap().to_string();
    assert_eq!(end, "exit code 3: reading the cache; the cache is broken");
    let story: Vec<_> = pods.pods[0].story.iter().map(|line| (line.text.clone(), line.trouble)).collect();
    assert_eq!(story[0], (format!("buildkitd has ended: {end}"), true));
    assert!(story[1].0.starts_with("starts again in 0.") && !story[1].1, "{story:?}");

    let pods = until(&backend, |pods| pods.pods[0].phase == PodPhase::Running).await;
    assert_eq!(pods.pods[0].incarnation, 2);
    assert_eq!(pods.pods[0].last_end.as_ref().unwrap().reason, "exit code 3");
}

#[tokio::test]
async fn a_signal_is_told_by_its_name() {
    let place = Place::new("kill -9 $$");
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    let pods = until(&backend, |pods| pods.pods.iter().any(|pod| pod.last_end.is_some())).await;
    assert_eq!(pods.pods[0].last_end.as_ref().unwrap().reason, "killed by SIGKILL");
}

#[tokio::test]
async fn a_state_directory_that_a_dying_predecessor_still_has_is_no_trouble() {
    let place =
        Place::new("echo \"buildkitd: could not lock $root/buildkitd.lock, another instance running?\"; exit 1");
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    let pods = until(&backend, |pods| pods.pods.iter().any(|pod| pod.last_end.is_some())).await;
    assert!(pods.pods[0].story.iter().all(|line| !line.trouble), "{pods:?}");
    assert!(pods.pods[0].story[0].text.starts_with("an earlier buildkitd still has the state directory"), "{pods:?}");
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_with_its_children() {
    let stubborn = r#"trap '' TERM; sleep 601 & echo $! >"$root/child"; echo $$ >"$root/pid"
while :; do sleep 0.05; done"#;
    let place = Place::new(stubborn);
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    let leader = place.pid(0).await;
    let child: i32 = std::fs::read_to_string(place.path("state/lap/0/root/child")).unwrap().trim().parse().unwrap();
    backend.apply(0).await.unwrap();
    let pods = until(&backend, |pods| pods.pods.is_empty()).await;
    assert_eq!(pods.ended[&pod("lap-0")].reason, "stopped by SIGKILL");
    assert!(is_gone(leader));
    // Its new parent may take a moment to reap it.
    eventually(|| is_gone(child).then_some(())).await;
}

#[tokio::test]
async fn dropping_the_backend_takes_its_pods_down_and_waits_for_that() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&[]);
    backend.apply(2).await.unwrap();
    let pids = [place.pid(0).await, place.pid(1).await];
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let group = stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap().to_owned();
        assert_eq!(group, pid.to_string(), "a Ctrl-C at our terminal would end it");
    }
    drop(backend);
    assert!(pids.into_iter().all(is_gone));
    let log = std::fs::read_to_string(place.path("state/lap/0/buildkitd.log")).unwrap();
    assert!(log.ends_with("terminated\n"), "{log}");
}

#[tokio::test]
async fn a_pod_that_waits_for_its_next_start_ends_at_once() {
    let place = Place::new("exit 1");
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    until(&backend, |pods| pods.pods.iter().any(|pod| pod.phase == PodPhase::Failed)).await;
    let begun = Instant::now();
    drop(backend);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_to_be_kept_stays_and_is_named() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&[]);
    backend.apply(1).await.unwrap();
    let pid = place.pid(0).await;
    let removal = Removal { keep_state: true, ..Removal::default() };
    let kept = vec![place.path("state/lap").display().to_string()];
    assert_eq!(backend.delete(removal).await.unwrap(), Removed::Gone { kept });
    assert!(is_gone(pid) && place.path("state/lap").exists() && !place.path("run/lap").exists());
}

#[tokio::test]
async fn delete_leaves_nothing_and_may_be_asked_for_twice() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&[]);
    backend.delete(Removal::default()).await.unwrap();
    backend.apply(1).await.unwrap();
    let pid = place.pid(0).await;
    std::fs::create_dir(place.path("state/other")).unwrap();
    backend.delete(Removal::default()).await.unwrap();
    assert!(is_gone(pid) && !place.path("state/lap").exists());
    assert!(place.path("state/other").exists(), "another node's state is not ours");
    assert!(!place.path("run/lap").exists());
    let pods = backend.pods().borrow().clone();
    assert!(pods.pods.is_empty() && !pods.applied);
    backend.delete(Removal::default()).await.unwrap();
    backend.apply(1).await.unwrap();
    place.pid(0).await;
}

#[tokio::test]
async fn a_running_pod_is_dialled_at_its_socket() {
    let place = Place::new(OBEDIENT);
    let backend = place.backend(&[]);
    assert!(matches!(backend.dial(&pod("lap-0")).await, Err(DialError::Gone(_))));
    backend.apply(1).await.unwrap();
    place.pid(0).await;
    let error = backend.dial(&pod("lap-0")).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to reach pod lap-0 by unix");

    let listener = UnixListener::bind(place.path("run/lap/0.sock")).unwrap();
    let mut dialed = backend.dial(&pod("lap-0")).await.unwrap();
    assert_eq!(dialed.transport, Transport::Unix);
    let (mut peer, _) = listener.accept().await.unwrap();
    dialed.stream.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    peer.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
    for name in ["lap-1", "other-0", "lap-../0"] {
        assert!(matches!(backend.dial(&pod(name)).await, Err(DialError::Gone(_))), "{name}");
    }
}

#[tokio::test]
async fn output_is_read_from_its_end_and_followed_to_the_end_of_the_pod() {
    let talkative = r#"exec 2>/dev/null; trap 'echo terminated; exit 1' TERM
for i in 1 2 3; do echo "line $i"; done; echo $$ >"$root/pid"
while :; do sleep 0.05; done"#;
    let place = Place::new(talkative);
    let backend = place.backend(&[]);
    let wanted = LogsWanted { follow: false, tail: None };
    assert!(matches!(backend.logs(&pod("lap-0"), wanted).await, Err(LogsError::Gone(_))));
    backend.apply(1).await.unwrap();
    place.pid(0).await;
    assert_eq!(log_of(&backend, "lap-0", None).await, "line 1\nline 2\nline 3\n");
    assert_eq!(log_of(&backend, "lap-0", Some(1)).await, "line 3\n");

    let follow = LogsWanted { follow: true, tail: Some(2) };
    let stream = backend.logs(&pod("lap-0"), follow).await.unwrap();
    let read = tokio::spawn(stream.map(|chunk| chunk.unwrap()).collect::<Vec<_>>());
    backend.apply(0).await.unwrap();
    let chunks = tokio::time::timeout(PATIENCE, read).await.expect("the end of a pod ends its output").unwrap();
    assert_eq!(String::from_utf8(chunks.concat()).unwrap(), "line 2\nline 3\nterminated\n");
    assert_eq!(log_of(&backend, "lap-0", Some(1)).await, "terminated\n", "it can be read after the end");
}

#[tokio::test]
async fn what_is_missing_is_told_and_nothing_is_started() {
    let place = Place::new(OBEDIENT);
    std::fs::remove_file(place.path("bin/buildkitd")).unwrap();
    let backend = place.backend(&[]);
    let error = backend.apply(1).await.unwrap_err();
    assert!(matches!(error, ApplyError::Missing { program: "buildkitd", .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("go install github.com/moby/buildkit/cmd/buildkitd@v"));
    let pods = backend.pods().borrow().clone();
    assert!(pods.pods.is_empty() && !pods.applied);

    let place = Place::new(OBEDIENT);
    let error = place.backend(&["--root=/elsewhere"]).apply(1).await.unwrap_err();
    let said = buildfleet::report::chain(&error);
    assert_eq!(said, "failed to run buildkitd: buildkitd flag `--root` is set by the local driver and can't be given");
}

#[tokio::test]
async fn the_end_of_the_daemon_by_sigkill_ends_its_children() {
    // The shell stands for the daemon: it dies without a chance to do anything.
    let buildfleet = env!("CARGO_BIN_EXE_buildfleet");
    let script = format!("{buildfleet} supervise-child --parent $$ -- sleep 602 & echo $!; wait");
    let mut daemon =
        std::process::Command::new("sh").args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.stdout.take().unwrap()), &mut line).unwrap();
    let child: i32 = line.trim().parse().unwrap();
    let command = PathBuf::from(format!("/proc/{child}/comm"));
    eventually(|| (std::fs::read_to_string(&command).ok()?.trim() == "sleep").then_some(())).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    eventually(|| is_gone(child).then_some(())).await;
}
