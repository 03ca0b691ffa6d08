//! The program itself, run against a daemon that answers from a script: output, exit codes, and what is asked.

use std::time::Duration;

use buildfleet_proto::fleet::progress::Level;
use buildfleet_proto::fleet::{Kubeconfig, LogChunk};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tonic::Status;

use crate::cli_daemon::{Ended, Machine, builder, ended, event};

#[track_caller]
fn expect(ended: &Ended, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(ended.stdout, stdout, "stdout of {ended:?}");
    assert_eq!(ended.stderr, stderr, "stderr of {ended:?}");
    assert_eq!(ended.code, Some(code), "{ended:?}");
}

fn kube(machine: Machine) -> Machine {
    let run = machine.run_dir();
    machine.builder(builder(&run, "kube", "kubernetes", &["kube0", "kube1"]))
}

#[tokio::test]
async fn without_builders_ls_prints_the_header_and_says_how_to_create_one() {
    let ended = Machine::new().run("ls").await;
    expect(
        &ended,
        0,
        "NAME/NODE   DRIVER/ENDPOINT   STATUS    BUILDKIT   PLATFORMS\n",
        "info: there is no builder yet; create one with `buildfleet create --name NAME`\n",
    );
}

#[tokio::test]
async fn ls_shows_the_builders_and_what_could_not_be_listed() {
    let machine = kube(Machine::new()).list_warns("failed to read builder broken.json");
    let table = "NAME/NODE   DRIVER/ENDPOINT          STATUS    BUILDKIT   PLATFORMS\n\
                 kube        kubernetes\n \\_ kube0    \\_ kubernetes://kube0   stopped              linux/amd64*\n \
                 \\_ kube1    \\_ kubernetes://kube1   stopped              linux/amd64*\n";
    let warning = "warning: failed to read builder broken.json\n";
    expect(&machine.run("ls").await, 0, table, warning);
    let json = machine.run("ls --format json").await;
    assert!(
        json.stdout.starts_with("{\"Name\":\"kube\",\"Driver\":\"kubernetes\",") && json.stderr == warning,
        "{json:?}"
    );
}

#[tokio::test]
async fn an_unknown_builder_is_an_error_that_lists_those_there_are() {
    let machine = kube(Machine::new());
    for command in ["inspect nix", "socket nix", "use nix", "stop nix", "rm nix", "create --name nix --append"] {
        let ended = machine.run(command).await;
        assert_eq!(ended.code, Some(1), "{command}: {ended:?}");
        assert!(ended.stderr.contains(": there is no builder `nix`\n"), "{command}: {ended:?}");
        assert!(ended.stderr.ends_with("hint: there are kube (kube0, kube1)\n"), "{command}: {ended:?}");
    }
}

#[tokio::test]
async fn the_socket_of_a_builder_and_of_a_node_are_addresses_for_buildctl() {
    let machine = kube(Machine::new());
    let run = machine.run_dir();
    expect(&machine.run("socket kube").await, 0, &format!("unix://{run}/builders/kube.sock\n"), "");
    expect(&machine.run("socket kube --node kube1").await, 0, &format!("unix://{run}/nodes/kube1.sock\n"), "");
    let named = machine.run_with("socket --format json", "BUILDFLEET_BUILDER", "kube").await;
    let wanted = format!("{{\"Name\":\"kube\",\"Address\":\"unix://{run}/builders/kube.sock\"}}\n");
    expect(&named, 0, &wanted, "");
    let missing = machine.run("socket kube --node kube7").await;
    expect(&missing, 1, "", "error: builder kube has no node `kube7`\nhint: its nodes are kube0, kube1\n");
}

#[tokio::test]
async fn create_prints_the_name_and_passes_on_what_was_given() {
    let machine = Machine::new().create_warns("the option `qemu.install` needs privileged pods");
    let line = "create --name kube --driver kubernetes --driver-opt namespace=builds,replicas=2 --driver-opt rootless=true \
                --platform linux/amd64,linux/386 --buildkitd-flags --debug --node a --timeout 90s --use \
                --kubeconfig /k/config --context prod";
    let ended = machine.run(&line.split_whitespace().collect::<Vec<_>>().join(" ")).await;
    expect(&ended, 0, "kube\n", "warning: the option `qemu.install` needs privileged pods\n");
    let created = machine.created();
    assert_eq!(created.driver_opt, ["namespace=builds,replicas=2", "rootless=true", "timeout=90s"]);
    assert_eq!(created.platform, ["linux/amd64,linux/386"]);
    assert_eq!(created.kubeconfig, Some(Kubeconfig { paths: vec!["/k/config".into()], context: "prod".into() }));
    assert_eq!((created.node.as_str(), created.buildkitd_flags.as_str()), ("a", "--debug"));
    assert!(created.r#use && !created.append && !created.dry_run);
    assert_eq!(machine.asked(), ["create kube"]);
}

#[tokio::test]
async fn files_are_read_where_the_user_is_and_their_content_is_passed_on() {
    let machine = Machine::new()
        .file("patch.yaml", "spec:\n  template: {spec: {hostNetwork: true, dnsPolicy: \"Default\"}}\n")
        .file("buildkitd.toml", "debug = true\n[registry.\"r:1\"]\nca = [\"ca.pem\"]\n")
        .file("ca.pem", "a certificate");
    let home = machine.home();
    let line = format!("create --name kube --driver local --driver-opt replicas=2,manifest-patch=@{home}/patch.yaml");
    let ended = machine.run(&line).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let wanted = "\"replicas=2\",\"manifest-patch=spec:\n  template: {spec: {hostNetwork: true, dnsPolicy: \"\"Default\"\"}}\n\"";
    assert_eq!(machine.created().driver_opt, [wanted]);
    let spoilt = machine.run(&format!("{line},affinity=@{home}/missing --driver-opt topologyspread=@{home}")).await;
    let missing =
        format!("driver option `affinity`: failed to read {home}/missing: No such file or directory (os error 2)");
    let directory = format!("driver option `topologyspread`: failed to read {home}: Is a directory (os error 21)");
    expect(&spoilt, 2, "", &format!("error: {missing}\n  {directory}\n"));

    std::fs::write(format!("{home}/absolute.toml"), format!("[registry.r]\nca = [\"{home}/ca.pem\"]\n")).unwrap();
    for option in ["--buildkitd-config", "--config"] {
        let ended = machine.run(&format!("create --name kube --driver local {option} {home}/absolute.toml")).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let config = machine.created().buildkitd_config.unwrap();
        assert_eq!(config.toml, "[registry.r]\nca = [\"certs/r/ca.pem\"]\n");
        assert_eq!(config.files["certs/r/ca.pem"], "a certificate");
    }
    std::fs::write(format!("{home}/wrong.toml"), format!("[registry.r]\nca = [\"{home}/missing\"]\nkeypair = 1\n"))
        .unwrap();
    let option = format!("--buildkitd-config {home}/wrong.toml");
    let wrong = machine.run(&format!("create --name kube --driver local {option}")).await;
    let lines = format!(
        "error: {option}: `registry.\"r\".ca`: failed to read {home}/missing: No such file or directory (os error 2)\n  \
         {option}: `registry.\"r\".keypair` is no list of tables\n"
    );
    expect(&wrong, 2, "", &lines);
    let none = machine.run(&format!("create --name kube --driver local --buildkitd-config {home}/missing")).await;
    let said = format!("error: failed to read --buildkitd-config {home}/missing: No such file");
    assert!(none.stderr.starts_with(&said), "{none:?}");
}

#[tokio::test]
async fn the_driver_is_kubernetes_where_there_is_a_kubeconfig_and_local_elsewhere() {
    let machine = Machine::new();
    let local = machine.run("create").await;
    expect(&local, 0, "invented\n", "info: using the local driver: found no kubeconfig\n");
    let machine = Machine::new().file(".kube/config", "");
    let ended = machine.run("create --name kube").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "kube\n"));
    assert!(ended.stderr.starts_with("info: using the kubernetes driver: found /"), "{ended:?}");
    let quiet = machine.run("-q create --name quiet").await;
    expect(&quiet, 0, "quiet\n", "");
    let append = machine.run("create --name quiet --append").await;
    expect(&append, 0, "quiet\n", "");
    assert_eq!(machine.created().driver, "kubernetes");
    let none = Machine::new().run("create --driver kubernetes").await;
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("found no cluster") && none.stderr.contains("hint: "), "{none:?}");
}

#[tokio::test]
async fn all_bad_options_are_told_together_and_are_a_wrong_command_line() {
    let status = Status::invalid_argument(
        "driver option `replicas`: `x` is no number\nplatform `amd64` is not of the form os/arch",
    );
    let machine = Machine::new().create_refuses(status);
    expect(
        &machine.run("create --name kube --driver local").await,
        2,
        "",
        "error: failed to create builder kube:\n  driver option `replicas`: `x` is no number\n  platform `amd64` is not of the form os/arch\n",
    );
    let unknown = machine.run("create --driver podman").await;
    expect(&unknown, 2, "", "error: unknown driver `podman`: accepted are kubernetes, local and remote\n");
}

#[tokio::test]
async fn bootstrap_tells_the_story_in_plain_lines() {
    let story = vec![
        event("", "created the deployment", Level::Info, 0),
        event("kube0-abc", "pulling image moby/buildkit", Level::Info, 0),
        event("kube0-abc", "", Level::Ready, 1),
        event("kube0-def", "", Level::Ready, 2),
    ];
    let machine = Machine::new().bootstrap(story, Some(Ok(())));
    let ended = machine.run("create --name kube --driver local --bootstrap").await;
    expect(
        &ended,
        0,
        "kube\n",
        "[kube0] created the deployment\n[kube0] kube0-abc: pulling image moby/buildkit\n[kube0] kube0-abc: ready (1/2)\n[kube0] kube0-def: ready (2/2)\n",
    );
    assert_eq!(machine.asked(), ["create kube", "bootstrap kube kube0"]);
    let again = machine.run("-q inspect kube --bootstrap --format json").await;
    assert_eq!(again.stderr, "");
    assert!(again.stdout.starts_with("{\"Name\":\"kube\","), "{again:?}");
}

#[tokio::test]
async fn a_bootstrap_that_fails_leaves_nothing_behind_and_has_its_own_exit_code() {
    let story = vec![event("kube0-abc", "pull failed: manifest unknown", Level::Warning, 0)];
    let status = Status::deadline_exceeded("node kube0 has 0 of 2 pods ready after 30 s\nkube0-abc: manifest unknown");
    let machine = Machine::new().bootstrap(story, Some(Err(status))).buildx(&[], false);
    let ended = machine.run("create --name kube --driver local --bootstrap").await;
    expect(
        &ended,
        4,
        "",
        "warning: [kube0] kube0-abc: pull failed: manifest unknown\n\
         info: builder kube was removed again, because its pods did not start\n\
         error: failed to start builder kube:\n  node kube0 has 0 of 2 pods ready after 30 s\n  kube0-abc: manifest unknown\n",
    );
    assert_eq!(machine.asked(), ["create kube", "bootstrap kube kube0", "remove kube and forget"]);
    assert_eq!(machine.told(), Vec::<String>::new());

    // Of a builder that exists, only the new node is taken back.
    let machine = kube(Machine::new()).bootstrap(Vec::new(), Some(Err(Status::internal("no"))));
    let ended = machine.run("create --name kube --append --bootstrap --kubeconfig k").await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(machine.asked(), ["create kube", "bootstrap kube kube2", "leave kube kube2"]);
    // And a node that was changed stays.
    let machine = kube(Machine::new()).bootstrap(Vec::new(), Some(Err(Status::internal("no"))));
    machine.run("create --name kube --node kube1 --bootstrap --kubeconfig k").await;
    assert_eq!(machine.asked(), ["create kube", "bootstrap kube kube1"]);
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_at_once_and_the_builder_stays() {
    let story = vec![event("kube0-abc", "pulling image", Level::Info, 0)];
    let machine = Machine::new().bootstrap(story, None);
    let mut child = machine.start("create --name kube --driver local --bootstrap");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    let first = tokio::time::timeout(Duration::from_secs(20), stderr.read_line(&mut line)).await;
    first.expect("the story begins").expect("it is text");
    let pid = i32::try_from(child.id().expect("it runs")).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("ours");
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut rest).await.expect("it is text");
    assert_eq!(ended(child).await.code, Some(130));
    assert!(
        rest.starts_with("error: failed to start builder kube: interrupted\nhint: its pods go on starting"),
        "{rest}"
    );
    assert_eq!(machine.asked(), ["create kube", "bootstrap kube kube0"]);
}

#[tokio::test]
async fn rm_goes_on_after_a_failure_and_force_forgets() {
    let machine = kube(Machine::new());
    let run = machine.run_dir();
    let machine = machine.builder(builder(&run, "stuck", "kubernetes", &["stuck0"]));
    let ended = machine.run("rm stuck kube").await;
    expect(&ended, 1, "", "kube removed\nerror: failed to remove builder stuck: failed to reach the API server\n");
    expect(
        &machine.run("rm --all --force --format json").await,
        0,
        "{\"Name\":\"stuck\",\"Result\":\"removed\"}\n",
        "",
    );
    assert_eq!(machine.asked(), ["remove stuck", "remove kube", "remove stuck by force"]);
}

#[tokio::test]
async fn stop_and_use_do_what_they_say() {
    let machine = kube(Machine::new());
    expect(&machine.run("stop kube").await, 0, "", "[kube0] scaled to 0 pods\n");
    expect(&machine.run("use kube").await, 0, "", "");
    expect(&machine.run("-q stop kube --format json").await, 0, "{\"Name\":\"kube\",\"Result\":\"stopped\"}\n", "");
    assert_eq!(machine.asked(), ["stop kube", "use kube", "stop kube"]);
}

#[tokio::test]
async fn logs_are_whole_lines_with_the_name_of_their_pod() {
    let chunk = |pod: &str, data: &str| LogChunk { pod: pod.into(), data: data.into() };
    let machine = Machine::new().logs(vec![chunk("a", "one\ntw"), chunk("b", "eins\n"), chunk("a", "o\nend")]);
    expect(&machine.run("logs kube0 --tail 5").await, 0, "[a] one\n[b] eins\n[a] two\n[a] end\n", "");
    let json = machine.run("logs kube0 --builder kube -f --format json").await;
    assert!(json.stdout.starts_with("{\"Pod\":\"a\",\"Line\":\"one\"}\n"), "{json:?}");
    assert_eq!(machine.asked(), ["logs /kube0 false 5", "logs kube/kube0 true 0"]);
    let missing = kube(Machine::new()).run("logs nix").await;
    let wanted =
        "error: failed to read the logs of node nix: there is no node `nix`\nhint: there are kube (kube0, kube1)\n";
    expect(&missing, 1, "", wanted);
}

#[tokio::test]
async fn version_starts_no_daemon() {
    let machine = Machine::new();
    let run = machine.run_dir();
    let version = env!("CARGO_PKG_VERSION");
    let wanted = format!("buildfleet {version}\ndaemon: 9.9.9, pid 7, at {run}\n");
    expect(&machine.run("version").await, 0, &wanted, "");
    let away = machine.run_with("version", "BUILDFLEET_RUNTIME_DIR", "/nonexistent/run").await;
    expect(&away, 0, &format!("buildfleet {version}\ndaemon: not running\n"), "");
    let json = machine.run_with("version --format json", "BUILDFLEET_RUNTIME_DIR", "/nonexistent/run").await;
    expect(&json, 0, &format!("{{\"Version\":\"{version}\",\"Daemon\":null}}\n"), "");
}

#[tokio::test]
async fn wrong_words_are_exit_code_two_and_help_is_none() {
    let machine = Machine::new();
    for (line, code) in
        [("create --nmae x", 2), ("lss", 2), ("rm", 2), ("--help", 0), ("create -h", 0), ("--version", 0)]
    {
        assert_eq!(machine.run(line).await.code, Some(code), "{line}");
    }
    let relative = machine.run_with("ls", "BUILDFLEET_RUNTIME_DIR", "run").await;
    expect(&relative, 2, "", "error: BUILDFLEET_RUNTIME_DIR has to be an absolute path, got `run`\n");
    let script = machine.run("completion bash").await;
    assert!(script.stdout.contains("buildfleet") && script.code == Some(0), "{script:?}");
}

#[tokio::test]
async fn a_daemon_that_goes_away_ends_the_wait() {
    let machine = Machine::new().bootstrap(vec![event("a", "pulling", Level::Info, 0)], None);
    let mut child = machine.start("create --name kube --driver local --bootstrap");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).await.expect("it is text");
    machine.kill_daemon();
    assert_eq!(ended(child).await.code, Some(1));
}
