//! `buildfleet buildx`, as the plugin runs it, beside a docker buildx that records what it is told.

use std::fs;

use tonic::Status;

use crate::cli_daemon::{Ended, Machine, builder};
use crate::cli_front_ls::listed;

/// A builder of ours in buildx's store.
pub(crate) fn registered(machine: Machine, name: &str, nodes: &[&str]) -> Machine {
    let run = machine.run_dir();
    let node = |node: &&str| format!(r#"{{"Name":"{node}","Endpoint":"unix://{run}/nodes/{node}.sock"}}"#);
    let nodes: Vec<String> = nodes.iter().map(node).collect();
    let text = format!(r#"{{"Name":"{name}","Driver":"remote","Nodes":[{}]}}"#, nodes.join(","));
    machine.file(&format!(".docker/buildx/instances/{name}"), &text)
}

/// One that the daemon knows, too, and that buildx can inspect.
pub(crate) fn kube() -> Machine {
    let inspected = "Name:   kube\nDriver: remote\n\nNodes:\nName:     kube0\nEndpoint: unix://RUN/nodes/kube0.sock\n\n\
                     Name:     kube1\nEndpoint: unix://RUN/nodes/kube1.sock\n";
    let machine = Machine::new().buildx(&[("kube", inspected)], false).file(".kube/config", "");
    let run = machine.run_dir();
    let machine = machine.builder(builder(&run, "kube", "kubernetes", &["kube0", "kube1"]));
    registered(machine, "kube", &["kube0", "kube1"])
}

#[track_caller]
pub(crate) fn expect(ended: &Ended, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(ended.stdout, stdout, "stdout of {ended:?}");
    assert_eq!(ended.stderr, stderr, "stderr of {ended:?}");
    assert_eq!(ended.code, Some(code), "{ended:?}");
}

#[tokio::test]
async fn create_prints_the_name_alone_and_passes_every_flag_on() {
    let machine = Machine::new().buildx(&[], false).file(".kube/config", "");
    let machine = machine.file("buildx/on-create", "echo \"off? $BUILDFLEET_SHIM\" >>told\n");
    let line = "buildx --builder other -D create --name Kube --driver=kubernetes --node a --platform arm64 --platform \
                linux/amd64,linux/386 --driver-opt namespace=b,replicas=2 --driver-opt rootless=true --buildkitd-flags --debug \
                --bootstrap=false --use --timeout 7s";
    let ended = machine.run(&line.split_whitespace().collect::<Vec<_>>().join(" ")).await;
    expect(&ended, 0, "kube\n", "");
    let created = machine.created();
    assert_eq!((created.builder.as_str(), created.node.as_str(), created.driver.as_str()), ("kube", "a", "kubernetes"));
    assert_eq!(created.platform, ["linux/arm64", "linux/amd64,linux/386"]);
    assert_eq!(created.driver_opt, ["namespace=b,replicas=2", "rootless=true"], "--timeout is of buildx, not of pods");
    assert_eq!((created.buildkitd_flags.as_str(), created.r#use, created.append), ("--debug", true, false));
    assert_eq!(
        machine.told(),
        [
            "create --timeout=7s --name kube --driver remote --node a --platform linux/amd64 unix://RUN/nodes/a.sock",
            "off? off",
            "use kube"
        ]
    );
    assert_eq!(machine.asked(), ["create kube"]);
}

#[tokio::test]
async fn a_node_joins_changes_and_leaves_without_a_word_more_than_buildx_has() {
    let machine = kube();
    expect(&machine.run("buildx create --append --name kube --node arm --platform linux/arm64").await, 0, "kube\n", "");
    assert!(machine.created().append && machine.created().driver == "kubernetes");
    let machine = kube();
    expect(&machine.run("buildx create --name kube --node kube1 --bootstrap").await, 0, "kube\n", "");
    assert_eq!(machine.asked(), ["create kube", "bootstrap kube kube1"]);
    expect(&machine.run("buildx create --leave --name kube --node kube1").await, 0, "", "");
    assert_eq!(machine.told().last().map(String::as_str), Some("create --leave --name kube --node kube1"));
    for (line, said) in [
        ("--leave --name kube --node nix", "node \"nix\" not found for kube"),
        ("--leave --name kube --node kube0", "can not leave last node, do you want to rm instance instead?"),
        ("--leave --name kube", "leave requires node name"),
        ("--leave", "leave requires instance name"),
    ] {
        expect(&machine.run(&format!("buildx create {line}")).await, 1, "", &format!("ERROR: {said}\n"));
    }
    assert_eq!(machine.asked(), ["create kube", "bootstrap kube kube1", "leave kube kube1"]);
}

#[tokio::test]
async fn a_builder_that_buildx_does_not_take_is_taken_back_here_and_there() {
    let refuses = Machine::new().buildx(&[], true).file(".kube/config", "");
    let ended = refuses.run("buildx create --driver kubernetes --name kube --use").await;
    let told = "info: builder kube was removed again, because docker buildx does not know it\n\
                ERROR: failed to register builder kube with docker buildx: the store is full\n";
    expect(&ended, 1, "", told);
    assert_eq!(refuses.asked(), ["create kube", "remove kube and forget"]);
    assert_eq!(refuses.told().len(), 1, "buildx has taken its part back itself: {:?}", refuses.told());

    // The second call of two fails: the first one is taken back.
    let machine = Machine::new().buildx(&[], false).file(".kube/config", "");
    let machine = machine.file("buildx/on-use", "echo ERROR: no >&2; exit 1\n");
    let ended = machine.run("buildx create --driver kubernetes --name kube --use").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert_eq!(machine.told()[1..], ["use kube", "rm kube"]);
    assert_eq!(machine.asked(), ["create kube", "remove kube and forget"]);

    // Of a builder that exists, the new node alone; and a node that was changed stays.
    for (line, asked) in
        [("--append --node arm", vec!["create kube", "leave kube arm"]), ("--node kube1", vec!["create kube"])]
    {
        let machine = kube().file("buildx/on-create", "echo ERROR: no >&2; exit 1\n");
        let ended = machine.run(&format!("buildx create --name kube {line}")).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(machine.asked(), asked, "{ended:?}");
    }
}

#[tokio::test]
async fn buildx_s_default_configuration_is_for_pods_and_does_not_keep_buildx_from_registering() {
    let machine = Machine::new().buildx(&[], false).file(".kube/config", "");
    let machine = machine.file(".docker/buildx/buildkitd.default.toml", "debug = true\n");
    // As buildx does, which refuses the file for a remote node; and it writes into its own store.
    let machine = machine.file(
        "buildx/on-create",
        "[ -e $BUILDX_CONFIG/buildkitd.default.toml ] && exit 1\necho x >$BUILDX_CONFIG/instances/kube; echo y >>$BUILDX_CONFIG/.lock\n",
    );
    expect(&machine.run("buildx create --driver kubernetes --name kube").await, 0, "kube\n", "");
    assert_eq!(machine.created().buildkitd_config.map(|config| config.toml), Some("debug = true\n".to_owned()));
    let store = std::path::Path::new(&machine.home()).join(".docker/buildx");
    assert_eq!(fs::read_to_string(store.join("instances/kube")).ok().as_deref(), Some("x\n"));
    assert_eq!(fs::read_to_string(store.join(".lock")).ok().as_deref(), Some("y\n"));
    let mut left: Vec<String> =
        fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    left.sort();
    assert_eq!(left, [".lock", "activity", "buildkitd.default.toml", "defaults", "instances", "refs"]);
}

#[tokio::test]
async fn what_is_wrong_is_said_as_buildx_says_it() {
    let machine = kube();
    let usage = "\n\nUsage:  docker buildx create [OPTIONS] [CONTEXT|ENDPOINT]\n\nRun 'docker buildx create --help' for more information\n";
    expect(&machine.run("buildx create --nope").await, 125, "", &format!("unknown flag: --nope{usage}"));
    for (line, said) in [
        ("create --driver kubernetes x", "kubernetes driver does not support endpoint args \"x\""),
        ("create --append --name nix", "failed to find instance \"nix\" for append"),
        ("rm --all-inactive kube", "cannot specify builder name when --all-inactive is set"),
        ("du --builder kube --verbose --format json", "--format and --verbose cannot be used together"),
    ] {
        expect(&machine.run(&format!("buildx {line}")).await, 1, "", &format!("ERROR: {said}\n"));
    }
    let machine = machine.file(".docker/contexts/meta/abc/meta.json", r#"{"Name":"desktop"}"#);
    let taken = machine.run("buildx create --driver kubernetes --name desktop").await;
    expect(&taken, 1, "", "ERROR: instance name \"desktop\" already exists as context builder\n");
    assert_eq!(machine.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn an_option_that_nobody_here_knows_leads_to_the_real_one() {
    let status = Status::invalid_argument("driver option `rotless`: unknown, did you mean `rootless`?");
    let machine = Machine::new().create_refuses(status).buildx(&[], false).file(".kube/config", "");
    let ended = machine.run("buildx create --driver kubernetes --name kube --driver-opt rotless=true").await;
    let told = "ERROR: failed to create builder kube: driver option `rotless`: unknown, did you mean `rootless`?\n\
                hint: BUILDFLEET_SHIM=off before a command gives it to docker's own buildx\n";
    expect(&ended, 1, "", told);
}

#[tokio::test]
async fn rm_does_ours_here_hands_the_others_on_and_fails_when_any_failed() {
    let run_rm = "shift; for name in \"$@\"; do case $name in --*) ;; nix) echo \"failed to remove nix: no builder \\\"nix\\\" found\" >&2; \
                  failed=1;; *) echo \"$name removed\" >&2;; esac; done\n\
                  [ -n \"$failed\" ] && echo 'ERROR: failed to remove one or more builders' >&2 && exit 1\n";
    let machine = kube().file("buildx/on-rm", run_rm);
    let run = machine.run_dir();
    let machine = registered(machine.builder(builder(&run, "stuck", "kubernetes", &["stuck0"])), "stuck", &["stuck0"]);
    let machine = registered(machine, "gone", &["gone0"]);
    let ended = machine.run("buildx rm stuck kube theirs nix gone --keep-state --timeout 3s").await;
    let told = "failed to remove stuck: failed to reach the API server\n\
                kube removed\n\
                theirs removed\n\
                failed to remove nix: no builder \"nix\" found\n\
                gone removed\n\
                ERROR: failed to remove one or more builders\n";
    expect(&ended, 1, "", told);
    assert_eq!(machine.asked(), ["remove stuck but its state", "remove kube but its state"]);
    assert_eq!(machine.told(), ["rm kube", "rm --keep-state --timeout=3s theirs nix gone"]);

    let machine = kube();
    expect(&machine.run("buildx rm kube --keep-daemon").await, 0, "", "kube removed\n");
    assert_eq!(machine.asked(), ["remove kube but its pods"]);
    let machine = kube();
    expect(&machine.run("buildx --builder kube rm -f").await, 0, "", "kube removed\n");
    assert_eq!(machine.asked(), ["remove kube by force"]);
}

#[tokio::test]
async fn rm_all_inactive_asks_first_and_the_end_of_stdin_is_a_no() {
    let warning = "WARNING! This will remove all builders that are not in running state. Are you sure you want to continue? [y/N] ";
    let run = |machine: Machine| {
        let run = machine.run_dir();
        let row = |builder: &str, name: &str, endpoint: &str, status: &str| {
            listed(&[builder, "false", name, endpoint, "", status, "", "", "", "{}"])
        };
        let rows = [
            row("kube", "kube", "remote", ""),
            row("kube", "kube0", &format!("unix://{run}/nodes/kube0.sock"), "running"),
            row("busy", "busy", "docker-container", ""),
            row("busy", "busy0", "unix:///var/run/docker.sock", "running"),
            row("idle", "idle", "docker-container", ""),
            row("idle", "idle0", "unix:///var/run/docker.sock", "inactive"),
            row("desktop", "desktop", "docker", ""),
            row("desktop", "desktop", "desktop", "inactive"),
        ];
        let store = r#"{"Name":"x","Driver":"docker-container","Nodes":[{"Name":"x0","Endpoint":"unix:///var/run/docker.sock"}]}"#;
        machine
            .file("buildx/on-ls", &rows.concat())
            .file(".docker/buildx/instances/idle", store)
            .file(".docker/buildx/instances/busy", store)
    };
    let machine = run(kube());
    expect(&machine.run("buildx rm --all-inactive").await, 0, warning, "");
    assert_eq!((machine.asked(), machine.told()), (vec![], vec![]));
    expect(&machine.run("buildx rm --all-inactive --force").await, 0, "", "kube removed\n");
    assert_eq!(machine.asked(), ["remove kube"], "nothing is taken from others");
    let told = machine.told();
    assert_eq!(
        (told[0].starts_with("ls --format"), &told[told.len() - 2..]),
        (true, &["rm kube".to_owned(), "rm --force idle".to_owned()][..])
    );
}

#[tokio::test]
async fn stop_use_and_inspect_are_for_the_builder_that_buildx_means() {
    let machine = kube()
        .file("buildx/on-use", "exit 0\n")
        .file(".docker/buildx/current", r#"{"Key":"unix:///var/run/docker.sock","Name":"kube","Global":false}"#);
    expect(&machine.run("buildx stop").await, 0, "", "");
    expect(&machine.run("buildx use --default kube").await, 0, "", "");
    assert_eq!(machine.asked(), ["stop kube", "use kube"]);
    assert_eq!(machine.told(), ["use --default kube"]);
    let shown = machine.run("buildx inspect").await;
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    assert!(shown.stdout.starts_with("Name:   kube\nDriver: kubernetes\n"), "{shown:?}");
    let by_variable = machine.run_with("buildx inspect --bootstrap", "BUILDX_BUILDER", "kube").await;
    assert_eq!(by_variable.code, Some(0), "{by_variable:?}");
    assert_eq!(machine.asked().last().map(String::as_str), Some("bootstrap kube "));
    // What is not ours is the real one's to answer.
    let theirs = machine.run("buildx stop theirs").await;
    assert_eq!((theirs.code, machine.told().last().map(String::as_str)), (Some(0), Some("stop theirs")), "{theirs:?}");
    let version = machine.run("buildx version").await;
    expect(&version, 0, "github.com/docker/buildx v0\n", "");
}

#[tokio::test]
async fn prune_asks_as_buildx_asks() {
    let machine = kube();
    let ended = machine.run("buildx prune --builder kube --keep-storage 1g").await;
    expect(
        &ended,
        0,
        "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] ",
        "Flag --keep-storage has been deprecated, keep-storage flag has been changed to reserved-space\n",
    );
}
