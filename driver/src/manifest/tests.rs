//! Whole manifests against the golden files in `testdata/manifests`, and rules that hold for all of them.
//!
//! `BUILDFLEET_BLESS=1 cargo test -p buildfleet manifest` writes what came out; read the difference before it is committed.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};

use super::*;
use crate::builder::{BuildkitdConfig, Driver, Endpoint, KubeContext, Platform};
use crate::options::{DriverOptions, parse_driver_opts};

use cases::{CASES, Case};

mod cases;

/// The golden cases of nodes with this name have it.
fn config() -> BuildkitdConfig {
    let toml = "debug = true\n[registry.\"r.example:5000\"]\nca = [\"/home/me/ca.pem\"]\n";
    BuildkitdConfig::read(toml, |_| Ok("-----BEGIN CERTIFICATE-----\n".to_owned())).unwrap()
}

fn node(name: &str, platforms: &str, flags: &[&str]) -> Node {
    Node {
        name: name.parse().unwrap(),
        endpoint: Endpoint::Kubernetes(KubeContext::InCluster),
        driver_opts: BTreeMap::new(),
        platforms: Platform::parse_list(platforms).unwrap(),
        buildkitd_flags: flags.iter().map(ToString::to_string).collect(),
        config: name.starts_with("configured").then(config),
    }
}

fn options(given: &[&str]) -> KubernetesOptions {
    let given: Vec<String> = given.iter().map(ToString::to_string).collect();
    match parse_driver_opts(Driver::Kubernetes, &given).unwrap().1 {
        DriverOptions::Kubernetes(options) => options,
        other => panic!("{other:?}"),
    }
}

fn rendered(&(_, name, given, platforms, flags, replicas): &Case) -> Objects {
    objects(&node(name, platforms, flags), &options(given), "builds", replicas)
}

/// The case of that name.
fn case(name: &str) -> Objects {
    rendered(CASES.iter().find(|case| case.0 == name).unwrap())
}

/// Of a node with these options alone.
fn with(given: &[&str]) -> Objects {
    objects(&node("kube0", "", &[]), &options(given), "builds", 1)
}

fn template(objects: &Objects) -> PodTemplateSpec {
    objects.workload.clone().template_mut().unwrap().clone()
}

fn pod(objects: &Objects) -> PodSpec {
    template(objects).spec.unwrap()
}

fn container(objects: &Objects) -> Container {
    pod(objects).containers.remove(0)
}

fn annotations(objects: &Objects) -> BTreeMap<String, String> {
    template(objects).metadata.unwrap().annotations.unwrap_or_default()
}

/// One document for each object, in the order in which they are applied.
fn yaml(Objects { config, workload, budget }: &Objects) -> String {
    let mut documents: Vec<String> = config.iter().map(|it| serde_yaml_ng::to_string(it).unwrap()).collect();
    documents.push(match workload {
        Workload::Deployment(it) => serde_yaml_ng::to_string(it).unwrap(),
        Workload::StatefulSet(it) => serde_yaml_ng::to_string(it).unwrap(),
    });
    documents.extend(budget.iter().map(|it| serde_yaml_ng::to_string(it).unwrap()));
    documents.join("---\n")
}

fn certificates() -> CertificateSet {
    let pem = |text: &str| format!("-----BEGIN {text}-----\n");
    CertificateSet {
        ca: pem("CA"),
        daemon_cert: pem("DAEMON CERTIFICATE"),
        daemon_key: pem("DAEMON KEY"),
        client_cert: pem("CLIENT CERTIFICATE"),
        client_key: pem("CLIENT KEY"),
        not_after: "2027-11-21T00:00:00Z".to_owned(),
    }
}

fn assert_golden(name: &str, yaml: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/manifests/{name}.yaml"));
    if std::env::var_os("BUILDFLEET_BLESS").is_some() {
        std::fs::write(path, yaml).unwrap();
    } else {
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(yaml, golden, "{name}: run BUILDFLEET_BLESS=1 cargo test -p buildfleet manifest");
    }
}

#[test]
fn objects_are_those_of_the_golden_files() {
    for case in &CASES {
        assert_golden(case.0, &yaml(&rendered(case)));
    }
}

#[test]
fn the_secret_is_that_of_the_golden_file() {
    let secret = tls_secret(&node("kube0", "", &[]), "builds", &certificates());
    assert_golden("tls-secret", &serde_yaml_ng::to_string(&secret).unwrap());
}

#[test]
fn every_golden_file_belongs_to_a_case() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/manifests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(name == "tls-secret" || CASES.iter().any(|case| case.0 == name), "{name} is left over");
    }
}

#[test]
fn the_same_node_and_options_give_the_same_text() {
    for case in &CASES {
        assert_eq!(yaml(&rendered(case)), yaml(&rendered(case)));
    }
}

#[test]
fn no_probe_can_kill_a_busy_builder() {
    for case in &CASES {
        let container = container(&rendered(case));
        assert_eq!((container.liveness_probe, container.startup_probe), (None, None), "{}", case.0);
    }
}

#[test]
fn a_pod_may_wait_for_its_builds_and_then_end_before_it_is_killed() {
    for (given, waits, grace) in [
        ("replicas=1", Some(3600), 3630),
        ("drain-timeout=2h", Some(7200), 7230),
        ("drain-timeout=1ms", Some(1), 31),
        ("drain-timeout=0", None, 30),
        ("drain-timeout=0s,rootless=true", None, 30),
        ("drain-timeout=30m,rootless=true", Some(1800), 1830),
    ] {
        let options = options(&[given]);
        let deployment = with(&[given]);
        assert_eq!(pod(&deployment).termination_grace_period_seconds, Some(grace), "{given}");
        let lifecycle = container(&deployment).lifecycle;
        let command = lifecycle.and_then(|lifecycle| lifecycle.pre_stop?.exec?.command);
        assert_eq!(command.is_some(), waits.is_some(), "{given}");
        let script = command.map(|command| command[2].clone()).unwrap_or_default();
        let wanted = waits.map(|seconds| format!("end=$(($(date +%s) + {seconds}))")).unwrap_or_default();
        assert!(script.contains(&wanted) && (waits.is_none() || script.contains(unix_address(&options))), "{script}");
    }
}

#[test]
fn pods_are_selected_by_one_label_that_they_carry() {
    for case in &CASES {
        let objects = rendered(case);
        let selected = match objects.workload.clone() {
            Workload::Deployment(it) => it.spec.unwrap().selector.match_labels.unwrap(),
            Workload::StatefulSet(it) => it.spec.unwrap().selector.match_labels.unwrap(),
        };
        let carried = template(&objects).metadata.unwrap().labels.unwrap();
        let node = node(case.1, "", &[]);
        assert_eq!(selected.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(), [selector(&node)]);
        assert!(selected.iter().all(|(key, value)| carried.get(key) == Some(value)), "{}", case.0);
    }
}

#[test]
fn tcp_is_never_without_mtls_and_the_unix_socket_always_there() {
    for case in &CASES {
        let arguments = container(&rendered(case)).args.unwrap().join(" ");
        let tls = "--tlscacert /certs/ca.pem --tlscert /certs/cert.pem --tlskey /certs/key.pem";
        assert_eq!(arguments.contains("tcp://"), arguments.contains(tls), "{arguments}");
        assert!(arguments.contains(unix_address(&options(case.2))), "{arguments}");
    }
}

#[test]
fn pods_see_neither_the_clients_key_nor_a_token_that_nobody_asked_for() {
    for case in &CASES {
        let pod = pod(&rendered(case));
        let asked = case.2.iter().any(|given| given.contains("serviceaccount="));
        assert_eq!(pod.automount_service_account_token, (!asked).then_some(false), "{}", case.0);
        let secrets = pod.volumes.into_iter().flatten().filter_map(|volume| volume.secret);
        for secret in secrets.filter(|secret| secret.secret_name.as_ref().unwrap().ends_with("-tls")) {
            let files: Vec<String> = secret.items.unwrap().into_iter().map(|item| item.key).collect();
            assert_eq!(files, ["ca.pem", "cert.pem", "key.pem"]);
        }
    }
}

#[test]
fn a_rootless_pod_is_not_privileged() {
    let rootless = container(&case("rootless")).security_context.unwrap();
    assert_eq!((rootless.privileged, rootless.run_as_user), (None, Some(1000)));
    let privileged = container(&case("default")).security_context.unwrap();
    assert_eq!((privileged.privileged, privileged.run_as_user), (Some(true), None));
}

#[test]
fn rootless_false_is_the_same_as_nothing_given() {
    assert_eq!(case("rootless-false"), case("default"));
}

#[test]
fn network_host_is_allowed_unless_flags_say_what_is() {
    for (flags, injected) in [
        (&[][..], true),
        (&["--debug"], true),
        (&["--allow-insecure-entitlements"], true),
        (&["--allow-insecure-entitlement=security.insecure"], false),
        (&["--allow-insecure-entitlement", "network.host"], false),
        (&["-allow-insecure-entitlement=network.host"], false),
    ] {
        let arguments = container(&objects(&node("kube0", "", flags), &options(&[]), "builds", 1)).args.unwrap();
        assert_eq!(arguments[..flags.len()], *flags);
        assert_eq!(arguments[flags.len()] == "--allow-insecure-entitlement=network.host", injected, "{flags:?}");
    }
}

#[test]
fn platforms_choose_machines_unless_the_user_does() {
    for (given, chosen) in [
        (&[][..], true),
        (&["nodeselector=disk=ssd"], true),
        (&["nodeselector=kubernetes.io/arch=arm64"], false),
        (&["nodeselector=beta.kubernetes.io/arch=arm64"], false),
        (&["qemu.install=true"], false),
        (&["qemu.install=false"], true),
    ] {
        let deployment = objects(&node("kube0", "linux/arm64", &[]), &options(given), "builds", 1);
        assert_eq!(pod(&deployment).affinity.is_some(), chosen, "{given:?}");
    }
}

#[test]
fn an_affinity_that_speaks_of_architectures_chooses_machines_by_itself() {
    let about = |key: &str| {
        let given = format!(
            "\"affinity={{nodeAffinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 1, preference: \
             {{matchExpressions: [{{key: {key}, operator: Exists}}]}}}}]}}}}\""
        );
        let pod = pod(&objects(&node("kube0", "linux/arm64", &[]), &options(&[&given]), "builds", 1));
        pod.affinity.unwrap().node_affinity.unwrap().required_during_scheduling_ignored_during_execution.is_some()
    };
    assert!(!about("kubernetes.io/arch"));
    assert!(about("disk"));
}

#[test]
fn pods_are_replaced_when_their_configuration_changes_and_not_else() {
    let configured = |toml: &str, file: &str| {
        let config = BuildkitdConfig::read(toml, |_| Ok(file.to_owned())).unwrap();
        let node = Node { config: Some(config), ..node("kube0", "", &[]) };
        annotations(&objects(&node, &options(&[]), "builds", 1))[pod::CONFIG_ANNOTATION].clone()
    };
    let toml = "[registry.r]\nca = [\"/a\"]";
    let first = configured(toml, "one");
    assert_eq!(first, configured(toml, "one"));
    assert_ne!(first, configured(toml, "two"));
    assert_ne!(first, configured(&format!("debug = true\n{toml}"), "one"));
    assert!(!annotations(&with(&[])).contains_key(pod::CONFIG_ANNOTATION));
}

#[test]
fn a_configuration_is_where_its_buildkitd_looks_and_readable_there() {
    for (given, directory, mode) in
        [(&[][..], "/etc/buildkit", 0o400), (&["rootless=true"], "/home/user/.config/buildkit", 0o444)]
    {
        let objects = objects(&node("configured0", "", &[]), &options(given), "builds", 1);
        let mount = container(&objects).volume_mounts.unwrap().into_iter().find(|mount| mount.name == "config");
        assert_eq!(mount.unwrap().mount_path, directory);
        let volume = pod(&objects).volumes.unwrap().into_iter().find(|volume| volume.name == "config").unwrap();
        let secret = volume.secret.unwrap();
        assert_eq!((secret.secret_name.as_deref(), secret.default_mode), (Some("configured0-config"), Some(mode)));
        let data = objects.config.unwrap().data.unwrap();
        let keys: Vec<&String> = data.keys().collect();
        assert_eq!(keys, secret.items.as_ref().unwrap().iter().map(|item| &item.key).collect::<Vec<_>>());
        assert!(keys.iter().all(|key| key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))), "{keys:?}");
        let toml = String::from_utf8(data["buildkitd.toml"].0.clone()).unwrap();
        let path = "certs/r.example_5000/ca.pem";
        assert!(toml.contains(&format!("{directory}/{path}")), "{toml}");
        assert!(secret.items.unwrap().iter().any(|item| item.path == path));
    }
}

#[test]
fn the_configuration_may_say_itself_that_the_network_is_allowed() {
    for (toml, injected) in [
        ("insecure-entitlements = [\"network.host\"]", false),
        ("insecure-entitlements = [\"security.insecure\"]", true),
    ] {
        let config = BuildkitdConfig::read(toml, |_| Err(String::new())).unwrap();
        let node = Node { config: Some(config), ..node("kube0", "", &[]) };
        let arguments = container(&objects(&node, &options(&[]), "builds", 1)).args.unwrap();
        assert_eq!(arguments.contains(&"--allow-insecure-entitlement=network.host".to_owned()), injected, "{toml}");
    }
}

#[test]
fn users_labels_are_on_the_workload_and_its_pods_and_never_select() {
    let objects = with(&["\"labels=team=web,app.kubernetes.io/name=mine\""]);
    for labels in [objects.workload.metadata().labels.clone(), template(&objects).metadata.unwrap().labels] {
        let labels = labels.unwrap();
        let wanted = [
            ("app", "kube0"),
            ("app.kubernetes.io/managed-by", "buildfleet"),
            ("team", "web"),
            ("app.kubernetes.io/name", "mine"),
        ];
        assert!(wanted.iter().all(|(key, value)| labels.get(*key).is_some_and(|it| it == value)), "{labels:?}");
    }
}
