//! Every kind and mode against the golden files in `testdata/by-hand`, and rules that hold for all of them.

use std::path::PathBuf;

use super::*;
use crate::manifest::RegistrySecret;
use crate::options::{HandGiven, HandMode, parse_by_hand};

/// Name of the golden file, kind, mode, Secret, options, whether it has a NetworkPolicy, whether it is scraped.
type Case = (&'static str, HandKind, HandMode, Option<&'static str>, &'static [&'static str], bool, bool);

use HandKind::{Deployment, Job as JobKind, Pod as PodKind, StatefulSet};
use HandMode::{Privileged, Rootless, Userns};

const CASES: [Case; 21] = [
    ("pod.privileged", PodKind, Privileged, None, &[], false, false),
    ("pod.rootless", PodKind, Rootless, None, &[], false, false),
    ("pod.userns", PodKind, Userns, None, &[], false, false),
    (
        "pod.guarded",
        PodKind,
        Rootless,
        Some("certs"),
        &["namespace=builds,poddisruptionbudget=minAvailable=1"],
        true,
        true,
    ),
    ("deployment.privileged", Deployment, Privileged, None, &[], false, false),
    ("deployment.rootless", Deployment, Rootless, None, &[], false, false),
    ("deployment.userns", Deployment, Userns, None, &[], false, false),
    (
        "deployment.guarded",
        Deployment,
        Privileged,
        None,
        &["namespace=builds,poddisruptionbudget=maxUnavailable=1"],
        true,
        false,
    ),
    ("deployment.scraped", Deployment, Rootless, None, &[], true, true),
    ("deployment.exec", Deployment, Privileged, None, &["transport=exec"], true, false),
    (
        "deployment.options",
        Deployment,
        Privileged,
        None,
        &[
            "namespace=builds,replicas=3,requests.cpu=1,limits.memory=4Gi,image=registry.example/buildkit:1",
            "labels=team=web,env.HTTPS_PROXY=http://proxy.example:3128,nodeselector=disk=ssd,serviceaccount=builder",
            "\"manifest-patch={spec: {strategy: {type: Recreate, rollingUpdate: null}}}\"",
        ],
        false,
        false,
    ),
    ("statefulset.privileged", StatefulSet, Privileged, None, &[], false, false),
    ("statefulset.rootless", StatefulSet, Rootless, None, &[], false, false),
    ("statefulset.userns", StatefulSet, Userns, None, &[], false, false),
    ("statefulset.tls", StatefulSet, Privileged, Some("certs"), &["replicas=2"], true, false),
    (
        "statefulset.volume",
        StatefulSet,
        Privileged,
        None,
        &["persistent-volume-claim.requests.storage=10Gi"],
        false,
        false,
    ),
    (
        "statefulset.volume-rootless",
        StatefulSet,
        Rootless,
        None,
        &["persistent-volume-claim.requests.storage=10Gi,storageclass=fast"],
        false,
        false,
    ),
    ("job.privileged", JobKind, Privileged, None, &[], false, false),
    ("job.rootless", JobKind, Rootless, None, &[], false, false),
    ("job.userns", JobKind, Userns, None, &[], false, false),
    ("job.guarded", JobKind, Rootless, None, &["namespace=builds,requests.cpu=1,nodeselector=disk=ssd"], true, false),
];

/// What the Jobs build.
fn build() -> JobBuild {
    let arguments = ["--frontend", "dockerfile.v0", "--opt", "context=https://git.example/app.git#main"];
    JobBuild {
        arguments: arguments.map(str::to_owned).into(),
        registry: RegistrySecret::Named { name: "regcred".to_owned(), key: RegistrySecret::KEY.to_owned() },
        ..JobBuild::default()
    }
}

fn rendered(&(_, kind, mode, tls_secret, driver_opts, network_policy, prometheus): &Case) -> Vec<Value> {
    let driver_opts: Vec<String> = driver_opts.iter().map(ToString::to_string).collect();
    let given =
        HandGiven { kind, mode: Some(mode), namespace: None, tls_secret, budget: None, driver_opts: &driver_opts };
    let options = parse_by_hand(&given).unwrap();
    let name = "buildkitd".parse().unwrap();
    by_hand(&ByHand { kind, name: &name, options: &options, network_policy, prometheus, build: &build() })
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/by-hand")
}

#[test]
fn every_kind_and_mode_is_that_of_its_golden_file() {
    for case in &CASES {
        let (path, text) = (folder().join(format!("{}.yaml", case.0)), yaml(&rendered(case)));
        if std::env::var_os("BUILDFLEET_BLESS").is_some() {
            std::fs::write(path, text).unwrap();
        } else {
            let golden = std::fs::read_to_string(path).unwrap_or_default();
            assert_eq!(text, golden, "{}: run BUILDFLEET_BLESS=1 cargo test -p buildfleet by_hand", case.0);
        }
    }
}

#[test]
fn every_golden_file_belongs_to_a_case() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(CASES.iter().any(|case| case.0 == name), "{name} is left over");
    }
}

#[test]
fn the_text_says_what_the_objects_say() {
    for case in &CASES {
        let objects = rendered(case);
        let text = yaml(&objects);
        let read: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&text)
            .map(|document| serde::Deserialize::deserialize(document).unwrap())
            .collect();
        assert_eq!(read, objects, "{}", case.0);
    }
}

#[test]
fn nothing_in_them_is_a_mark_of_a_daemon_s_own() {
    for case in &CASES {
        let text = yaml(&rendered(case));
        for mark in ["buildfleet.internal", "managed-by", "buildx"] {
            let lines =
                text.lines().filter(|line| line.contains(mark) && !line.contains("image: moby/buildkit:buildx-"));
            assert_eq!(lines.collect::<Vec<_>>(), Vec::<&str>::new(), "{}", case.0);
        }
    }
}

#[test]
fn a_rootless_pod_is_relaxed_in_two_places_and_no_others() {
    for case in CASES.iter().filter(|case| case.2 == Rootless) {
        let text = yaml(&rendered(case));
        for (words, times) in [("privileged", 0), ("type: Unconfined", 2), ("hostUsers", 0), ("capabilities", 0)] {
            assert_eq!(text.matches(words).count(), times, "{}: {words}", case.0);
        }
    }
}
