//! What buildx is told, and what is read of its answers.

use super::*;

fn node(name: &str, platforms: &[&str]) -> Node {
    Node {
        name: name.into(),
        driver: "kubernetes".into(),
        socket: format!("/run/buildfleet/nodes/{name}.sock"),
        platforms: platforms.iter().map(|text| (*text).to_owned()).collect(),
        ..Node::default()
    }
}

fn builder(nodes: Vec<Node>) -> Builder {
    Builder { name: "kube".into(), driver: "kubernetes".into(), nodes, ..Builder::default() }
}

fn known(nodes: &[&str]) -> Known {
    let node = |name: &&str| KnownNode {
        name: (*name).to_owned(),
        endpoint: format!("unix:///run/buildfleet/nodes/{name}.sock"),
    };
    Known { driver: "remote".into(), nodes: nodes.iter().map(node).collect() }
}

fn host() -> Platform {
    "linux/amd64".parse().expect("a platform")
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| step.join(" ")).collect()
}

#[test]
fn buildx_is_told_what_it_does_not_know() {
    let amd = || node("kube0", &["linux/amd64"]);
    let arm = || node("kube1", &["linux/arm64", "linux/arm/v7"]);
    let create0 = "create --name kube --driver remote --node kube0 --platform linux/amd64 unix:///run/buildfleet/nodes/kube0.sock";
    let append1 = "create --name kube --driver remote --node kube1 --append --platform linux/arm64,linux/arm/v7 unix:///run/buildfleet/nodes/kube1.sock";
    let update1 = "create --name kube --driver remote --node kube1 --platform linux/arm64,linux/arm/v7 --driver-opt default-load=false unix:///run/buildfleet/nodes/kube1.sock";
    for (nodes, has, changed, use_it, wanted) in [
        (vec![amd()], None, "kube0", false, vec![create0]),
        (vec![amd()], None, "kube0", true, vec![create0, "use kube"]),
        (vec![amd(), arm()], None, "kube1", false, vec![create0, append1]),
        (vec![amd(), arm()], Some(known(&["kube0"])), "kube1", false, vec![append1]),
        (vec![amd(), arm()], Some(known(&["kube0", "kube1"])), "kube1", false, vec![update1]),
        (vec![amd()], Some(known(&["kube0", "kube1"])), "", false, vec!["create --leave --name kube --node kube1"]),
        (
            vec![amd()],
            Some(known(&["old"])),
            "kube0",
            false,
            vec![
                "create --name kube --driver remote --node kube0 --append --platform linux/amd64 unix:///run/buildfleet/nodes/kube0.sock",
                "create --leave --name kube --node old",
            ],
        ),
        (vec![amd()], Some(known(&["kube0"])), "", false, vec![]),
    ] {
        let steps = register(&builder(nodes), has.as_ref(), changed, use_it, &host());
        assert_eq!(lines(&steps), wanted, "known: {has:?}, changed: {changed}");
    }
}

#[test]
fn a_node_whose_socket_has_moved_is_told_again() {
    let mut has = known(&["kube0"]);
    has.nodes[0].endpoint = "unix:///elsewhere/kube0.sock".into();
    let steps = register(&builder(vec![node("kube0", &["linux/amd64"])]), Some(&has), "", false, &host());
    assert_eq!(steps.len(), 1);
    assert!(!steps[0].contains(&"--append".to_owned()), "{steps:?}");
}

#[test]
fn the_last_node_that_leaves_takes_the_builder_with_it() {
    for (has, node, wanted) in [
        (&["kube0", "kube1"][..], "kube1", vec!["create --leave --name kube --node kube1"]),
        (&["kube0"], "kube0", vec!["rm kube"]),
        (&["kube0"], "kube1", vec![]),
    ] {
        assert_eq!(lines(&leave("kube", &known(has), node)), wanted, "{has:?} {node}");
    }
}

#[test]
fn what_buildx_loads_is_told_with_each_change() {
    let loading = |value: &str| {
        let mut node = node("kube0", &["linux/amd64"]);
        node.driver_opts.insert("default-load".into(), value.into());
        node
    };
    for (node, has, wanted) in [
        (loading("true"), None, Some("default-load=true")),
        (loading("1"), Some(known(&["kube0"])), Some("default-load=true")),
        (loading("false"), None, None),
        (loading("false"), Some(known(&["kube0"])), Some("default-load=false")),
        (node("kube0", &["linux/amd64"]), Some(known(&["kube0"])), Some("default-load=false")),
    ] {
        let steps = register(&builder(vec![node.clone()]), has.as_ref(), "kube0", false, &host());
        let told = steps[0].iter().position(|word| word == "--driver-opt").map(|at| steps[0][at + 1].as_str());
        assert_eq!(told, wanted, "{node:?}");
    }
}

#[test]
fn a_platform_is_always_told() {
    let workers = |list: &[&str]| {
        let mut node = node("kube0", &[]);
        node.worker_platforms = list.iter().map(|text| (*text).to_owned()).collect();
        node
    };
    let selector = |text: &str| {
        let mut node = node("kube0", &[]);
        node.driver_opts.insert("nodeselector".into(), text.into());
        node
    };
    for (node, driver, wanted) in [
        (node("kube0", &["linux/arm64"]), "kubernetes", vec!["linux/arm64"]),
        (
            workers(&["linux/amd64", "linux/amd64/v2", "linux/arm64", "linux/386"]),
            "kubernetes",
            vec!["linux/amd64", "linux/amd64/v2"],
        ),
        (workers(&["linux/arm64", "linux/amd64"]), "local", vec!["linux/arm64"]),
        (selector("kubernetes.io/arch=arm64"), "kubernetes", vec!["linux/arm64"]),
        (selector("\"pool=b,kubernetes.io/arch=s390x\""), "kubernetes", vec!["linux/s390x"]),
        (selector("kubernetes.io/arch=arm64"), "local", vec!["linux/amd64"]),
        (selector("pool=b"), "kubernetes", vec!["linux/amd64"]),
        (node("kube0", &[]), "kubernetes", vec!["linux/amd64"]),
    ] {
        let node = Node { driver: driver.to_owned(), ..node };
        assert_eq!(platforms(&node, options(&node).as_ref(), &host()), wanted, "{node:?}");
    }
}

// As docker-buildx v0.36.0 prints it.
const INSPECTED: &str = "\
Name:          kube
Driver:        remote
Last Activity: 2026-11-21 11:16:13 +0000 UTC

Nodes:
Name:             kube0
Endpoint:         unix:///run/buildfleet/nodes/kube0.sock
Status:           running
BuildKit version: v0.33.1
Platforms:        linux/amd64*, linux/amd64/v2
Labels:
 org.mobyproject.buildkit.worker.executor: oci
 Name: a label
GC Policy rule#0:
 All:            false

Name:      kube1
Endpoint:  unix:///run/buildfleet/nodes/kube1.sock
Status:    inactive
Platforms: linux/arm64*
";

#[test]
fn the_text_of_inspect_is_read() {
    assert_eq!(Known::parse(INSPECTED), known(&["kube0", "kube1"]));
    assert_eq!(Known::parse(""), Known::default());
}

#[test]
fn ours_is_what_has_nothing_but_our_sockets() {
    let dir = Path::new("/run/buildfleet");
    assert!(known(&["kube0", "kube1"]).is_ours(dir));
    let container = Known { driver: "docker-container".into(), ..known(&["kube0"]) };
    let tcp = Known {
        driver: "remote".into(),
        nodes: vec![KnownNode { name: "a".into(), endpoint: "tcp://build:1234".into() }],
    };
    let neighbour = Known {
        driver: "remote".into(),
        nodes: vec![KnownNode { name: "a".into(), endpoint: "unix:///run/buildfleet-other/nodes/a.sock".into() }],
    };
    let mut mixed = known(&["kube0"]);
    mixed.nodes.extend(tcp.nodes.clone());
    for other in [container, tcp, neighbour, mixed, known(&[])] {
        assert!(!other.is_ours(dir), "{other:?}");
    }
}

#[test]
fn what_was_told_before_a_call_failed_is_taken_back() {
    let line = |steps: Vec<Step>| steps.iter().map(|step| step.join(" ")).collect::<Vec<_>>();
    assert_eq!(line(undo("kube", None, "kube0")), ["rm kube"]);
    let two = known(&["kube0", "kube1"]);
    assert_eq!(line(undo("kube", Some(&two), "kube2")), ["create --leave --name kube --node kube2"]);
    assert_eq!(undo("kube", Some(&two), "kube1"), Vec::<Step>::new(), "a node that was changed stays");
}

#[test]
fn only_nodes_that_are_made_have_their_status_loaded() {
    let step = |line: &str| line.split(' ').map(str::to_owned).collect::<Step>();
    let mut steps =
        [step("create --name kube unix:///x"), step("create --leave --name kube --node a"), step("use kube")];
    bound(&mut steps, "7s");
    let lines: Vec<String> = steps.iter().map(|step| step.join(" ")).collect();
    assert_eq!(lines, ["create --timeout=7s --name kube unix:///x", "create --leave --name kube --node a", "use kube"]);
}
