//! What a `create` makes of what exists, and all that it refuses.

use buildfleet_proto::fleet::Kubeconfig;

use super::*;
use crate::builder::KubeContext;

const NOBODY: &[&str] = &[];

fn context() -> KubeContext {
    KubeContext::File { paths: vec!["/home/u/.kube/config".into()], context: "prod".to_owned() }
}

fn request(driver: &str) -> CreateRequest {
    let kubeconfig = Kubeconfig { paths: vec!["/home/u/.kube/config".to_owned()], context: String::new() };
    CreateRequest { driver: driver.to_owned(), kubeconfig: Some(kubeconfig), ..CreateRequest::default() }
}

fn remote(node: &str, endpoint: &str) -> CreateRequest {
    CreateRequest { node: node.to_owned(), endpoint: endpoint.to_owned(), ..request("remote") }
}

/// The plan for builder `kube`, when nodes of these names are taken.
fn plan(request: CreateRequest, existing: Option<&Builder>, taken: &[&str]) -> Result<Plan, PlanError> {
    let locate = |paths: Vec<PathBuf>, context: Option<String>| -> Located {
        let context = context.unwrap_or_else(|| "prod".to_owned());
        if context == "gone" {
            return Err("kubeconfig /home/u/.kube/config has no context `gone`".to_owned());
        }
        Ok((KubeContext::File { paths, context }, Some("builds".to_owned())))
    };
    let is_taken = |node: &NodeName| {
        taken.contains(&node.as_str()) || existing.is_some_and(|builder| builder.node(node).is_some())
    };
    Asked::parse(request).plan("kube".parse().unwrap(), existing, &is_taken, &locate)
}

fn created(request: CreateRequest) -> Builder {
    plan(request, None, NOBODY).unwrap().builder
}

fn append(request: CreateRequest) -> CreateRequest {
    CreateRequest { append: true, ..request }
}

fn lines(error: PlanError) -> Vec<String> {
    match error {
        PlanError::Invalid(lines) => lines,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_kubernetes_builder_has_its_context_and_namespace_fixed() {
    let plan = plan(request("kubernetes"), None, &["kube0", "kube1"]).unwrap();
    assert_eq!(plan.change, Change::Create);
    assert_eq!(plan.builder.nodes, std::slice::from_ref(&plan.node));
    assert_eq!(plan.node.name.as_str(), "kube2");
    assert_eq!(plan.node.endpoint, Endpoint::Kubernetes(context()));
    assert_eq!(plan.node.driver_opts, DriverOpts::from([("namespace".to_owned(), "builds".to_owned())]));
    assert_eq!(plan.node.buildkitd_flags, ["--allow-insecure-entitlement=network.host"]);
}

#[test]
fn what_the_user_says_goes_before_what_is_filled_in() {
    let request = CreateRequest {
        node: "Arm".to_owned(),
        driver_opt: vec!["namespace=ci,replicas=2".to_owned(), "replicas=3".to_owned()],
        platform: vec!["linux/arm64,linux/arm/v7".to_owned(), "linux/arm64/v8".to_owned()],
        buildkitd_flags: "--debug '--allow-insecure-entitlement security.insecure'".to_owned(),
        ..request("kubernetes")
    };
    let node = plan(request, None, NOBODY).unwrap().node;
    assert_eq!(node.name.as_str(), "arm");
    assert_eq!(node.driver_opts["namespace"], "ci");
    assert_eq!(node.driver_opts["replicas"], "3");
    assert_eq!(node.platforms, Platform::parse_list("linux/arm64,linux/arm/v7").unwrap());
    assert_eq!(node.buildkitd_flags, ["--debug", "--allow-insecure-entitlement security.insecure"]);
}

#[test]
fn all_errors_of_a_command_come_together() {
    let request = CreateRequest {
        builder: "9kube".to_owned(),
        node: "no de".to_owned(),
        driver_opt: vec!["replicas=many,nonsense=1".to_owned()],
        platform: vec!["arm64".to_owned()],
        buildkitd_flags: "--debug 'open".to_owned(),
        kubeconfig: Some(Kubeconfig { paths: vec!["config".to_owned()], context: "gone".to_owned() }),
        ..request("kubernetes")
    };
    let lines = lines(plan(request, None, NOBODY).unwrap_err());
    for wanted in ["`9kube`", "`no de`", "replicas", "nonsense", "`arm64`", "single quote", "`config`", "`gone`"] {
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}: {lines:#?}");
    }
}

#[test]
fn a_driver_and_its_endpoint_have_to_fit() {
    for (given, wanted) in [
        (request(""), "no driver is given"),
        (request("docker"), "unknown driver `docker`"),
        (request("remote"), "the remote driver needs an endpoint"),
        (remote("r", "ftp://h"), "endpoint `ftp://h`: accepted are unix:///path, tcp://host:port, ssh://"),
        (CreateRequest { endpoint: "tcp://h:1".to_owned(), ..request("local") }, "the local driver takes no endpoint"),
        (CreateRequest { endpoint: "tcp://h:1".to_owned(), ..request("kubernetes") }, "takes no endpoint"),
    ] {
        let lines = lines(plan(given, None, NOBODY).unwrap_err());
        assert!(lines.len() == 1 && lines[0].contains(wanted), "{wanted}: {lines:?}");
    }
}

#[test]
fn a_node_joins_by_append_alone() {
    let kube = created(request("kubernetes"));
    let joined = plan(append(request("kubernetes")), Some(&kube), NOBODY).unwrap();
    assert_eq!(joined.change, Change::Append);
    assert_eq!(joined.builder.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["kube0", "kube1"]);
    assert_eq!(plan(append(request("")), Some(&kube), NOBODY).unwrap().node.driver(), Driver::Kubernetes);

    let named = CreateRequest { node: "other".to_owned(), ..request("kubernetes") };
    for (given, existing, taken, wanted) in [
        (request("kubernetes"), Some(&kube), NOBODY, PlanError::Exists("kube".parse().unwrap())),
        (named.clone(), Some(&kube), NOBODY, PlanError::Exists("kube".parse().unwrap())),
        (append(request("kubernetes")), None, NOBODY, PlanError::Missing("kube".parse().unwrap())),
        (append(named.clone()), Some(&kube), &["other"], PlanError::NodeTaken("other".parse().unwrap())),
        (named, None, &["other"], PlanError::NodeTaken("other".parse().unwrap())),
        (
            CreateRequest { node: "kube0".to_owned(), ..request("local") },
            Some(&kube),
            NOBODY,
            PlanError::OtherDriver {
                node: "kube0".parse().unwrap(),
                present: Driver::Kubernetes,
                given: Driver::Local,
            },
        ),
    ] {
        assert_eq!(plan(given, existing, taken), Err(wanted));
    }
}

#[test]
fn a_node_that_is_named_again_is_changed_where_something_is_given() {
    let first = CreateRequest {
        driver_opt: vec!["replicas=2".to_owned()],
        platform: vec!["linux/amd64".to_owned()],
        buildkitd_flags: "--debug --allow-insecure-entitlement=security.insecure".to_owned(),
        ..request("kubernetes")
    };
    let kube = created(first);
    let again = |request: CreateRequest| CreateRequest { node: "kube0".to_owned(), ..request };

    let same = plan(again(request("kubernetes")), Some(&kube), NOBODY).unwrap();
    assert_eq!((same.change, &same.builder), (Change::Update, &kube));

    let wanted = CreateRequest { driver_opt: vec!["rootless=true".to_owned()], ..again(request("kubernetes")) };
    let node = plan(wanted, Some(&kube), NOBODY).unwrap().node;
    let opts = [("namespace", "builds"), ("rootless", "true")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(node.driver_opts, DriverOpts::from(opts));
    assert_eq!(node.platforms, kube.nodes[0].platforms);
    assert_eq!(node.buildkitd_flags, kube.nodes[0].buildkitd_flags);

    let elsewhere = CreateRequest { driver_opt: vec!["namespace=ci".to_owned()], ..again(request("kubernetes")) };
    let (from, to) = ("builds".to_owned(), "ci".to_owned());
    let moved = PlanError::Moved { node: "kube0".parse().unwrap(), from, to };
    assert_eq!(plan(elsewhere, Some(&kube), NOBODY), Err(moved));

    let other_cluster = Some(Kubeconfig { paths: vec!["/elsewhere".to_owned()], context: "gone".to_owned() });
    let kept = plan(CreateRequest { kubeconfig: other_cluster, ..again(request("")) }, Some(&kube), NOBODY).unwrap();
    assert_eq!(kept.node.endpoint, Endpoint::Kubernetes(context()));
}

#[test]
fn each_node_has_a_driver_and_options_of_its_own() {
    let kube = created(request("kubernetes"));
    let local = CreateRequest { driver_opt: vec!["replicas=2".to_owned()], ..append(request("local")) };
    let mixed = plan(local, Some(&kube), NOBODY).unwrap();
    assert_eq!((mixed.builder.drivers().as_str(), mixed.node.endpoint.clone()), ("kubernetes, local", Endpoint::Local));
    assert_eq!(mixed.node.buildkitd_flags, [""; 0], "the defaults are those of its own driver");
    let of_the_other = |driver: &str, opt: &str| {
        let given = CreateRequest { driver_opt: vec![opt.to_owned()], ..append(request(driver)) };
        lines(plan(given, Some(&mixed.builder), NOBODY).unwrap_err())
    };
    assert!(of_the_other("local", "nodeselector=a=b")[0].contains("nodeselector"));
    assert!(of_the_other("remote", "replicas=2").iter().any(|line| line.contains("replicas")));
    // What is not said is that of the node, or of all nodes.
    let again = CreateRequest { node: "kube1".to_owned(), ..request("") };
    assert_eq!(plan(again, Some(&mixed.builder), NOBODY).unwrap().builder, mixed.builder);
    let unsaid = lines(plan(append(request("")), Some(&mixed.builder), NOBODY).unwrap_err());
    assert_eq!(
        unsaid,
        [
            "no driver is given, and builder kube has nodes of kubernetes, local: accepted are kubernetes, local and remote"
        ]
    );
    let back = plan(append(request("kubernetes")), Some(&created(request("local"))), NOBODY).unwrap();
    assert_eq!(back.builder.drivers(), "local, kubernetes");
}

#[test]
fn a_platform_that_a_node_claims_is_no_longer_anothers() {
    let both = vec!["linux/amd64,linux/arm64".to_owned()];
    let kube = created(CreateRequest { platform: both, ..request("kubernetes") });
    let arm = CreateRequest { platform: vec!["linux/arm64".to_owned()], ..append(request("kubernetes")) };
    let plan = plan(arm, Some(&kube), NOBODY).unwrap();
    let platforms: Vec<Vec<String>> =
        plan.builder.nodes.iter().map(|node| node.platforms.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(platforms, [["linux/amd64"], ["linux/arm64"]]);
    assert_eq!(plan.warnings, ["platform linux/arm64 moves from node kube0 to node kube1"]);
}

#[test]
fn two_nodes_of_a_builder_are_not_the_same_remote() {
    let kube = created(remote("a", "tcp://h:1"));
    let twice = lines(plan(append(remote("b", "tcp://h:1")), Some(&kube), NOBODY).unwrap_err());
    assert_eq!(twice, ["another node of the builder has this endpoint already"]);
    assert_eq!(plan(append(remote("b", "tcp://h:2")), Some(&kube), NOBODY).unwrap().builder.nodes.len(), 2);
    assert_eq!(plan(remote("a", "tcp://h:1"), Some(&kube), NOBODY).unwrap().builder, kube);
    assert_eq!(plan(remote("a", ""), Some(&kube), NOBODY).unwrap().builder, kube);
}

#[test]
fn an_address_in_a_cluster_has_its_context_and_namespace_fixed() {
    let file = |path: &str, context: &str| KubeContext::File { paths: vec![path.into()], context: context.to_owned() };
    let service = |address: &str| {
        let opts = vec!["cacert=/c,loadbalance=random".to_owned()];
        CreateRequest { driver_opt: opts, ..remote("", address) }
    };
    for (given, context, wanted) in [
        (remote("", "kube-pod://b"), context(), "kube-pod://b?context=prod&namespace=builds"),
        (
            remote("", "kube-pod://b?context=dev&namespace=ci&container=c&kubeconfig=/k"),
            file("/k", "dev"),
            "kube-pod://b?context=dev&namespace=ci&container=c&kubeconfig=/k",
        ),
        (service("kube-service://b:1234"), context(), "kube-service://b:1234?context=prod&namespace=builds"),
    ] {
        let node = plan(given, None, NOBODY).unwrap().node;
        let Endpoint::Cluster { context: found, at } = &node.endpoint else { panic!("{node:?}") };
        assert_eq!((found, at.to_string().as_str()), (&context, wanted));
        assert_eq!((node.driver(), node.buildkitd_flags.len()), (Driver::Remote, 0));
        let stored = serde_json::to_string(&node.endpoint).unwrap();
        assert_eq!(serde_json::from_str::<Endpoint>(&stored).unwrap(), node.endpoint);
    }
    // What is asked for by --context holds where the address says nothing.
    let kubeconfig = Some(Kubeconfig { paths: vec!["/k".to_owned()], context: "dev".to_owned() });
    let node = plan(CreateRequest { kubeconfig, ..remote("", "kube-pod://b") }, None, NOBODY).unwrap().node;
    assert!(matches!(&node.endpoint, Endpoint::Cluster { context, .. } if *context == file("/k", "dev")), "{node:?}");
    assert!(lines(plan(remote("", "kube-pod://b?context=gone"), None, NOBODY).unwrap_err())[0].contains("`gone`"));
    // A node that is changed without an address keeps it, and what it needs.
    let service = created(service("kube-service://b:1234"));
    let again = CreateRequest { platform: vec!["linux/arm64".to_owned()], ..remote("kube0", "") };
    assert_eq!(plan(again, Some(&service), NOBODY).unwrap().node.endpoint, service.nodes[0].endpoint);
}

#[test]
fn options_that_mean_nothing_at_an_endpoint_are_refused() {
    for (address, opts, wanted) in [
        ("unix:///s", "cacert=/c", "`cacert`: TLS is for tcp:// and kube-service://, and unix:// is reached without"),
        ("ssh://h", "servername=x,cacert=/c", "`servername`: TLS is for"),
        ("kube-pod://p", "cacert=/c", "and kube-pod:// is reached without"),
        (
            "docker-container://c",
            "loadbalance=random",
            "`loadbalance`: it is for the pods of kube-service://, and at a container",
        ),
        ("tcp://h:1", "transport=pod-ip", "`transport`: it is for the pods of kube-service://"),
        ("kube-service://s:1", "timeout=9s", "`cacert`: kube-service:// needs it"),
        (
            "kube-service://s:1",
            "cacert=/c,transport=exec",
            "`exec` is none of the accepted words; accepted is auto, pod-ip or",
        ),
        ("kube-pod://p", "replicas=2", "`replicas`: an option of the kubernetes driver"),
    ] {
        let given = CreateRequest { driver_opt: vec![opts.to_owned()], ..remote("", address) };
        let lines = lines(plan(given, None, NOBODY).unwrap_err());
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}: {lines:?}");
    }
}

#[test]
fn pods_of_others_are_attached_to_and_none_of_their_options_given() {
    let attach = |to: &str, opts: &[&str]| CreateRequest {
        attach: to.to_owned(),
        driver_opt: opts.iter().map(|opt| (*opt).to_owned()).collect(),
        ..request("kubernetes")
    };
    let plan_of = |request| plan(request, None, NOBODY);
    let attached = plan_of(attach("deploy/team", &["namespace=ci,timeout=1m,transport=exec"])).unwrap();
    let to = "deployment/team".parse().unwrap();
    assert_eq!(attached.node.endpoint, Endpoint::Attached { context: context(), to });
    assert_eq!(attached.node.buildkitd_flags, [""; 0]);
    for (given, wanted) in [
        (attach("team", &[]), "`team` is none of"),
        (attach("pod/p", &["replicas=2"]), "`replicas`: the pods of --attach are not buildfleet's"),
        (attach("pod/p", &["transport=pod-ip"]), "`pod-ip` needs certificates"),
        (CreateRequest { buildkitd_flags: "--debug".to_owned(), ..attach("pod/p", &[]) }, "--buildkitd-flags"),
        (CreateRequest { driver: "local".to_owned(), ..attach("pod/p", &[]) }, "not for local"),
    ] {
        let lines = lines(plan_of(given).unwrap_err());
        assert!(lines.len() == 1 && lines[0].contains(wanted), "{wanted}: {lines:?}");
    }
    // What is attached stays so, may be another one later, and pods of our own are not left behind for it.
    let again = |request: CreateRequest| CreateRequest { node: "kube0".to_owned(), ..request };
    let kept = plan(again(request("")), Some(&attached.builder), NOBODY).unwrap();
    assert_eq!(kept.node.endpoint, attached.node.endpoint);
    let own = created(request("kubernetes"));
    let error = plan(again(attach("pod/p", &[])), Some(&own), NOBODY).unwrap_err();
    assert!(matches!(error, PlanError::Attached { .. }), "{error:?}");
}

fn configured(driver: &str, toml: &str) -> CreateRequest {
    let config = buildfleet_proto::fleet::BuildkitdConfig { toml: toml.to_owned(), ..Default::default() };
    CreateRequest { buildkitd_config: Some(config), ..request(driver) }
}

#[test]
fn a_configuration_stays_until_another_one_is_given() {
    let kube = created(configured("kubernetes", "debug = true"));
    let kept = |builder: &Builder| builder.nodes[0].config.as_ref().map(|config| config.toml().to_owned());
    assert_eq!(kept(&kube).as_deref(), Some("debug = true"));
    let update = |request: CreateRequest| {
        let request = CreateRequest { node: "kube0".to_owned(), ..request };
        plan(request, Some(&kube), NOBODY).unwrap().builder
    };
    let scaled = CreateRequest { driver_opt: vec!["replicas=2".to_owned()], ..request("kubernetes") };
    assert_eq!(kept(&update(scaled)).as_deref(), Some("debug = true"));
    assert_eq!(kept(&update(configured("kubernetes", "debug = false"))).as_deref(), Some("debug = false"));
}

#[test]
fn the_network_is_allowed_by_a_flag_unless_the_configuration_does_so() {
    for (toml, flags) in [
        ("insecure-entitlements = [\"network.host\"]", &[][..]),
        ("insecure-entitlements = [\"security.insecure\"]", &["--allow-insecure-entitlement=network.host"]),
    ] {
        assert_eq!(created(configured("kubernetes", toml)).nodes[0].buildkitd_flags, flags, "{toml}");
    }
    assert_eq!(created(configured("local", "")).nodes[0].buildkitd_flags, [""; 0]);
}

#[test]
fn a_configuration_that_nobody_could_read_is_refused() {
    let elsewhere =
        |flags: &str| CreateRequest { buildkitd_flags: flags.to_owned(), ..configured("local", "debug = true") };
    let at = |endpoint: &str| CreateRequest { endpoint: endpoint.to_owned(), ..configured("remote", "") };
    for (given, wanted) in [
        (at("tcp://h:1"), "the remote driver starts no buildkitd"),
        (elsewhere("--config /etc/buildkit/buildkitd.toml"), "--config among the flags of buildkitd"),
        (elsewhere("-config=/x"), "--config among the flags of buildkitd"),
        (configured("kubernetes", "debug ="), "it is no TOML: line 1"),
        (
            configured("kubernetes", "[registry.r]\nca = [\"/etc/shadow\"]"),
            "it names `/etc/shadow`, which is not there",
        ),
    ] {
        let lines = lines(plan(given, None, NOBODY).unwrap_err());
        assert!(lines.len() == 1 && lines[0].starts_with("--buildkitd-config: "), "{lines:?}");
        assert!(lines[0].contains(wanted), "{wanted}: {lines:?}");
    }
    assert!(plan(elsewhere("--config-x=1"), None, NOBODY).is_ok());
}
