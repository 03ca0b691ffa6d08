//! Whole manifests against the golden files in `testdata/manifests`, and rules that hold for all of them.
//!
//! `BUILDFLEET_BLESS=1 cargo test -p buildfleet manifest` writes what came out; read the difference before it is committed.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::*;
use crate::builder::{Driver, Endpoint, KubeContext, Platform};
use crate::options::{DriverOptions, parse_driver_opts};

/// Name of the golden file, name of the node, driver options, platforms, flags of `buildkitd`, pods.
type Case = (&'static str, &'static str, &'static [&'static str], &'static str, &'static [&'static str], u32);

const CASES: [Case; 14] = [
    ("default", "kube0", &[], "", &[], 1),
    ("exec-only", "kube0", &["transport=exec"], "", &[], 1),
    ("rootless", "kube0", &["rootless=true"], "", &[], 2),
    ("rootless-exec", "kube0", &["rootless=true,transport=exec"], "", &[], 1),
    ("rootless-false", "kube0", &["rootless=false"], "", &[], 1),
    ("rootless-own-image", "kube0", &["rootless=true,image=registry.example:5000/buildkit:mine"], "", &[], 1),
    ("qemu", "kube0", &["qemu.install=true"], "linux/amd64,linux/arm64", &[], 1),
    ("qemu-rootless", "kube0", &["qemu.install=1,qemu.image=registry.example/binfmt:1,rootless=true"], "", &[], 1),
    (
        "resources",
        "kube0",
        &["requests.cpu=500m,requests.memory=1.5Gi", "limits.cpu=2,limits.memory=4Gi,replicas=3"],
        "",
        &[],
        3,
    ),
    (
        "machines",
        "arm_node.1",
        &[
            "\"nodeselector=kubernetes.io/arch=arm64,disk=ssd\"",
            "\"tolerations=key=builders,operator=Equal,value=only,effect=NoExecute,tolerationSeconds=60;operator=Exists\"",
        ],
        "linux/arm64,linux/arm/v7",
        &[],
        1,
    ),
    ("drain", "kube0", &["drain-timeout=1m30.5s"], "", &[], 1),
    ("drain-none", "kube0", &["drain-timeout=0"], "", &[], 1),
    ("platforms", "kube0", &["nodeselector=disk=ssd"], "linux/amd64,linux/386", &[], 0),
    (
        "flags",
        "kube0",
        &["transport=pod-ip"],
        "linux/amd64,linux/arm64",
        &["--allow-insecure-entitlement=security.insecure", "--oci-max-parallelism", "4"],
        1,
    ),
];

fn node(name: &str, platforms: &str, flags: &[&str]) -> Node {
    Node {
        name: name.parse().unwrap(),
        endpoint: Endpoint::Kubernetes(KubeContext::InCluster),
        driver_opts: BTreeMap::new(),
        platforms: Platform::parse_list(platforms).unwrap(),
        buildkitd_flags: flags.iter().map(ToString::to_string).collect(),
        config: None,
    }
}

fn options(given: &[&str]) -> KubernetesOptions {
    let given: Vec<String> = given.iter().map(ToString::to_string).collect();
    match parse_driver_opts(Driver::Kubernetes, &given).unwrap().1 {
        DriverOptions::Kubernetes(options) => options,
        other => panic!("{other:?}"),
    }
}

fn rendered(&(_, name, given, platforms, flags, replicas): &Case) -> Deployment {
    deployment(&node(name, platforms, flags), &options(given), "builds", replicas)
}

fn pod(deployment: &Deployment) -> PodSpec {
    deployment.spec.as_ref().unwrap().template.spec.clone().unwrap()
}

fn container(deployment: &Deployment) -> Container {
    pod(deployment).containers.remove(0)
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
fn deployments_are_those_of_the_golden_files() {
    for case in &CASES {
        assert_golden(case.0, &serde_yaml_ng::to_string(&rendered(case)).unwrap());
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
        let text = || serde_json::to_string(&rendered(case)).unwrap();
        assert_eq!(text(), text());
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
        let deployment = deployment(&node("kube0", "", &[]), &options, "builds", 1);
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
        let spec = rendered(case).spec.unwrap();
        let selected = spec.selector.match_labels.unwrap();
        let carried = spec.template.metadata.unwrap().labels.unwrap();
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
fn pods_see_neither_the_clients_key_nor_a_token() {
    for case in &CASES {
        let pod = pod(&rendered(case));
        assert_eq!(pod.automount_service_account_token, Some(false));
        for secret in pod.volumes.unwrap().into_iter().filter_map(|volume| volume.secret) {
            let files: Vec<String> = secret.items.unwrap().into_iter().map(|item| item.key).collect();
            assert_eq!(files, ["ca.pem", "cert.pem", "key.pem"]);
        }
    }
}

#[test]
fn a_rootless_pod_is_not_privileged() {
    let rootless = container(&rendered(&CASES[2])).security_context.unwrap();
    assert_eq!((rootless.privileged, rootless.run_as_user), (None, Some(1000)));
    let privileged = container(&rendered(&CASES[0])).security_context.unwrap();
    assert_eq!((privileged.privileged, privileged.run_as_user), (Some(true), None));
}

#[test]
fn rootless_false_is_the_same_as_nothing_given() {
    assert_eq!(rendered(&CASES[4]), rendered(&CASES[0]));
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
        let arguments = container(&deployment(&node("kube0", "", flags), &options(&[]), "builds", 1)).args.unwrap();
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
        let deployment = deployment(&node("kube0", "linux/arm64", &[]), &options(given), "builds", 1);
        assert_eq!(pod(&deployment).affinity.is_some(), chosen, "{given:?}");
    }
}
