//! The daemon as a process of its own: started on demand, killed, asked to end, and handed a socket by systemd.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use buildfleet::daemon::launch::{self, LaunchError, connect_or_start_program};
use buildfleet::socket::private_directory;
use buildfleet_proto::buildkit::InfoRequest;
use buildfleet_proto::fleet::fleet_client::FleetClient;
use buildfleet_proto::fleet::{CreateRequest, ListRequest, ListResponse, ShutdownRequest, VersionRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::support::buildkitd::FakeBuildkitd;
use crate::support::daemon::Home;
use crate::support::front::solve;
use crate::support::user::connect;

type Client = FleetClient<Channel>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_buildfleet");

/// How long anything here may take; a machine may be busy.
const LONG: Duration = Duration::from_secs(20);

fn command(home: &Home, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).envs(home.settings.for_child()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A daemon by hand, once it answers.
async fn by_hand(home: &Home, args: &[&str]) -> (Child, Client) {
    let mut child = command(home, &[&["daemon"], args].concat()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    loop {
        if let Some(daemon) = launch::connect(&home.settings).await.unwrap() {
            return (child, FleetClient::new(daemon));
        }
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the daemon ended: {status}");
        }
        assert!(begun.elapsed() < LONG, "the daemon does not answer");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn ended(child: Child) -> Output {
    timeout(LONG, child.wait_with_output()).await.expect("the process does not end").unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
}

async fn pid(client: &mut Client) -> u32 {
    client.version(VersionRequest {}).await.unwrap().into_inner().pid
}

async fn list(client: &mut Client) -> ListResponse {
    client.list(ListRequest {}).await.unwrap().into_inner()
}

/// Waits for the end of a process that is not this one's child.
async fn gone(pid: u32) {
    let begun = Instant::now();
    // One that ended and was not waited for yet has no command line.
    while fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
        assert!(begun.elapsed() < LONG, "process {pid} does not end");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A node that nobody ever reaches: it costs nothing to create.
fn remote(builder: &str) -> CreateRequest {
    CreateRequest {
        builder: builder.to_owned(),
        driver: "remote".to_owned(),
        endpoint: "unix:///nobody/listens/here.sock".to_owned(),
        ..CreateRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_start_a_daemon_at_once_all_reach_the_same() {
    let home = Home::new();
    let starting = (0..8).map(|_| connect_or_start_program(&home.settings, Path::new(PROGRAM)));
    let daemons = futures::future::join_all(starting).await;
    let mut pids = BTreeSet::new();
    for daemon in daemons {
        pids.insert(pid(&mut FleetClient::new(daemon.unwrap())).await);
    }
    assert_eq!(pids.len(), 1, "{pids:?}");
    let daemon = *pids.first().unwrap();
    let mut client = FleetClient::new(launch::connect(&home.settings).await.unwrap().unwrap());
    client.create(remote("far")).await.unwrap();
    client.shutdown(ShutdownRequest {}).await.unwrap();
    drop(client);
    gone(daemon).await;
    assert_eq!(home.files("run"), ["builders", "daemon.lock", "nodes"]);
    let log = home.settings.daemon_log();
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&log).unwrap().contains("another daemon runs already"));

    let mut client = FleetClient::new(connect_or_start_program(&home.settings, Path::new(PROGRAM)).await.unwrap());
    assert_ne!(pid(&mut client).await, daemon);
    assert_eq!(list(&mut client).await.builders[0].name, "far");
    let daemon = pid(&mut client).await;
    client.shutdown(ShutdownRequest {}).await.unwrap();
    drop(client);
    gone(daemon).await;
}

/// The socket of a process takes connections until the last of its threads has ended.
#[tokio::test]
async fn a_daemon_that_is_killed_while_it_is_greeted_is_none() {
    let home = Home::new();
    private_directory(home.settings.runtime_dir()).unwrap();
    let listener = tokio::net::UnixListener::bind(home.settings.control_socket()).unwrap();
    let dies = async move {
        // The probe, and what is greeted: neither is read from.
        let first = listener.accept().await.unwrap();
        let second = listener.accept().await.unwrap();
        // A process that another test starts has the listener until it runs.
        sleep(Duration::from_millis(50)).await;
        drop((listener, first, second));
    };
    let (daemon, ()) = tokio::join!(launch::connect(&home.settings), dies);
    assert!(daemon.unwrap().is_none());
}

#[tokio::test]
async fn a_second_daemon_is_an_error_by_hand_and_none_on_demand() {
    let home = Home::new();
    let (first, client) = by_hand(&home, &[]).await;
    let second = ended(command(&home, &["daemon"]).spawn().unwrap()).await;
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another daemon runs already"), "{said}");
    assert!(ended(command(&home, &["daemon", "--on-demand"]).spawn().unwrap()).await.status.success());
    drop(client);
    signal(&first, Signal::SIGTERM);
    assert!(ended(first).await.status.success());
}

#[tokio::test]
async fn a_daemon_that_cannot_start_says_why_to_who_started_it() {
    let home = Home::new();
    fs::create_dir(home.settings.state_dir()).unwrap();
    fs::create_dir(home.settings.state_dir().join("builders")).unwrap();
    fs::set_permissions(home.settings.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(home.settings.state_dir().join("builders"), fs::Permissions::from_mode(0o777)).unwrap();
    let error = connect_or_start_program(&home.settings, Path::new(PROGRAM)).await.unwrap_err();
    assert!(matches!(error, LaunchError::Died { .. }), "{error}");
    assert!(error.to_string().contains("state/builders has mode 0777"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_moment_it_is_killed_at_a_daemon_finds_what_it_promised() {
    let home = Home::new();
    let mut promised = BTreeSet::new();
    for round in 0_u64..8 {
        let (child, mut client) = by_hand(&home, &[]).await;
        let found = list(&mut client).await;
        assert_eq!(found.warnings, [] as [&str; 0]);
        let names: BTreeSet<String> = found.builders.iter().map(|builder| builder.name.clone()).collect();
        assert!(promised.is_subset(&names), "round {round}: {promised:?} were promised, {names:?} are there");
        for builder in &found.builders {
            connect(builder.socket.as_ref()).await.info(InfoRequest {}).await.unwrap();
        }
        let killing = async {
            // Another moment each time, and always in the middle of a row of writes.
            sleep(Duration::from_millis(3 + 7 * round)).await;
            signal(&child, Signal::SIGKILL);
        };
        let creating = async {
            for n in 0.. {
                let name = format!("b{round}n{n}");
                if client.create(remote(&name)).await.is_err() {
                    break;
                }
                promised.insert(name);
            }
        };
        tokio::join!(killing, creating);
        ended(child).await;
    }
    assert!(promised.len() > 8, "only {promised:?} were created between the kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_signal_drains_and_a_second_one_aborts() {
    let home = Home::new();
    let buildkitd = FakeBuildkitd::start("near", home.path());
    let (mut child, mut client) = by_hand(&home, &["--drain", "600"]).await;
    let near = CreateRequest { endpoint: format!("unix://{}", buildkitd.socket.display()), ..remote("near") };
    let builder = client.create(near).await.unwrap().into_inner().builder.unwrap();
    drop(client);
    let mut builds = connect(builder.socket.as_ref()).await;
    let build = solve("r1", "hang");
    let build = tokio::spawn(async move { builds.solve(build).await });
    let begun = Instant::now();
    while buildkitd.seen.solving.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < LONG, "the build does not reach its pod");
        sleep(Duration::from_millis(10)).await;
    }
    signal(&child, Signal::SIGTERM);
    let begun = Instant::now();
    while Path::new(&builder.socket).exists() {
        assert!(begun.elapsed() < LONG, "the drain does not begin");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(home.files("run/nodes"), [] as [&str; 0]);
    sleep(Duration::from_millis(300)).await;
    assert!(child.try_wait().unwrap().is_none(), "the build was not waited for");
    signal(&child, Signal::SIGINT);
    assert_eq!(ended(child).await.status.code(), Some(1));
    assert!(build.await.unwrap().is_err());
}

#[tokio::test]
async fn a_socket_that_systemd_made_is_served_and_left_in_place() {
    let home = Home::new();
    private_directory(home.settings.runtime_dir()).unwrap();
    let path = home.settings.control_socket();
    let listener = UnixListener::bind(&path).unwrap();
    // As systemd hands it over: file descriptor 3, for this process.
    let script = format!("exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec {PROGRAM} daemon");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).envs(home.settings.for_child()).stdin(Stdio::from(OwnedFd::from(listener)));
    let child = shell.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut client = FleetClient::new(timeout(LONG, launch::connect(&home.settings)).await.unwrap().unwrap().unwrap());
    assert_eq!(Some(pid(&mut client).await), child.id());
    client.create(remote("far")).await.unwrap();
    drop(client);
    signal(&child, Signal::SIGTERM);
    let output = ended(child).await;
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("activated=true"), "{log}");
    assert!(path.exists());
}

#[test]
fn the_units_name_the_socket_that_the_command_line_looks_for() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let socket = fs::read_to_string(units.join("buildfleet.socket")).unwrap();
    let value = |key: &str| socket.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    let variables = std::collections::BTreeMap::from([("XDG_RUNTIME_DIR", "/run/user/1000"), ("HOME", "/home/u")]);
    let settings = buildfleet::settings::Settings::read(&variables).unwrap();
    assert_eq!(Path::new(&value("ListenStream").replace("%t", "/run/user/1000")), settings.control_socket());
    assert_eq!((value("SocketMode"), value("DirectoryMode")), ("0600", "0700"));
    let service = fs::read_to_string(units.join("buildfleet.service")).unwrap();
    assert!(service.lines().any(|line| line.starts_with("ExecStart=") && line.contains("/buildfleet daemon")));
}
