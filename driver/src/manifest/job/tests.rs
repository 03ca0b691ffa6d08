//! Whole Jobs against the golden files in `testdata/jobs`, and the scripts of the context as a shell runs them.
//!
//! `BUILDFLEET_BLESS=1 cargo test -p buildfleet manifest::job` writes what came out; read the difference before it is committed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::builder::{BuildkitdConfig, Endpoint, KubeContext, Platform};
use crate::options::{APP_LABEL, parse_for_job};

fn node(platforms: &str, config: bool) -> Node {
    let toml = "[registry.\"r.example:5000\"]\nca = [\"/home/me/ca.pem\"]\n";
    Node {
        name: "brisk_kiln".parse().unwrap(),
        endpoint: Endpoint::Kubernetes(KubeContext::InCluster),
        driver_opts: BTreeMap::new(),
        platforms: Platform::parse_list(platforms).unwrap(),
        buildkitd_flags: if config { vec!["--debug".to_owned()] } else { Vec::new() },
        config: config
            .then(|| BuildkitdConfig::read(toml, |_| Ok("-----BEGIN CERTIFICATE-----\n".to_owned())).unwrap()),
    }
}

fn options(given: &str) -> KubernetesOptions {
    let given: Vec<String> = Some(given.to_owned()).filter(|given| !given.is_empty()).into_iter().collect();
    parse_for_job(&given).unwrap()
}

fn build(arguments: &str) -> JobBuild {
    JobBuild {
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        ttl: Some(3600),
        ..JobBuild::default()
    }
}

fn uploaded() -> JobBuild {
    let local = "--frontend dockerfile.v0 --local context=/workspace/context --local dockerfile=/workspace/context";
    JobBuild {
        uploads_context: true,
        secrets: BTreeMap::from([("npmrc".to_owned(), b"hidden".to_vec())]),
        registry: RegistrySecret::Own(b"{\"auths\":{}}".to_vec()),
        timeout: Some(900),
        title: Some("r.example/app:1".to_owned()),
        ..build(local)
    }
}

fn at_address() -> BuildPlace {
    BuildPlace::Address {
        address: "tcp://buildkitd:1234".to_owned(),
        server_name: "buildkitd.example".to_owned(),
        secret: "buildkit-client-certs".to_owned(),
        keys: ["ca.pem", "cert.pem", "key.pem"].map(str::to_owned),
    }
}

/// Name of the golden file, platforms, whether `buildkitd` is configured, options, build.
fn cases() -> Vec<(&'static str, &'static str, bool, &'static str, JobBuild)> {
    let git = "--frontend dockerfile.v0 --opt context=https://git.example/app.git";
    let registry = RegistrySecret::Named { name: "regcred".to_owned(), key: "config.json".to_owned() };
    vec![
        ("git", "", false, "", build(git)),
        ("privileged", "linux/arm64", false, "rootless=false", JobBuild { retries: 2, ..build(git) }),
        ("userns", "", false, "hostusers=false", build(git)),
        ("uploaded", "", true, "requests.cpu=500m,limits.memory=2Gi,serviceaccount=builder", uploaded()),
        ("address", "", false, "", JobBuild { place: at_address(), registry, ..build(git) }),
        ("address-uploaded", "", false, "nodeselector=disk=ssd", JobBuild { place: at_address(), ..uploaded() }),
        (
            "decorated",
            "",
            false,
            "labels=team=web,annotations=a=b,env.HTTPS_PROXY=http://proxy.example:3128,\
             manifest-patch={spec: {template: {spec: {hostname: builder}}}}",
            build(git),
        ),
    ]
}

fn rendered((_, platforms, config, given, build): &(&str, &str, bool, &str, JobBuild)) -> JobObjects {
    job(&node(platforms, *config), &options(given), "builds", build)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/jobs")
}

#[test]
fn jobs_are_those_of_the_golden_files() {
    let cases = cases();
    for case in &cases {
        let JobObjects { job, secrets } = rendered(case);
        let mut documents: Vec<String> = secrets.iter().map(|it| serde_yaml_ng::to_string(it).unwrap()).collect();
        documents.push(serde_yaml_ng::to_string(&job).unwrap());
        let (text, path) = (documents.join("---\n"), folder().join(format!("{}.yaml", case.0)));
        if std::env::var_os("BUILDFLEET_BLESS").is_some() {
            std::fs::write(path, text).unwrap();
            continue;
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, golden, "{}: run BUILDFLEET_BLESS=1 cargo test -p buildfleet manifest::job", case.0);
    }
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(cases.iter().any(|case| case.0 == name), "{name} is left over");
    }
}

#[test]
fn no_pod_of_a_job_is_taken_for_one_of_a_builder() {
    for case in &cases() {
        let template = rendered(case).job.spec.unwrap().template;
        let labels = template.metadata.unwrap().labels.unwrap();
        assert!(!labels.contains_key(APP_LABEL), "{}: {labels:?}", case.0);
        let all = JOB_SELECTOR.split(',').filter_map(|pair| pair.split_once('='));
        assert!(all.clone().count() == 2 && all.clone().all(|(label, value)| labels[label] == value), "{labels:?}");
    }
}

#[test]
fn no_secret_of_a_job_is_taken_for_what_a_builder_has_left() {
    for case in &cases() {
        for secret in rendered(case).secrets {
            let labels = secret.metadata.labels.unwrap();
            assert!(!labels.contains_key(MANAGED_BY), "{}: {labels:?}", case.0);
        }
    }
}

#[test]
fn values_of_secrets_are_in_secrets_alone() {
    let job = serde_json::to_string(&rendered(&cases().remove(3)).job).unwrap();
    assert!(!job.contains("hidden") && !job.contains("auths"), "{job}");
}

/// The script of a container or of a command, in a directory in the place of the workspace.
fn shell(command: &[String], workspace: &Path) -> Command {
    let [shell, flag, script] = command else { panic!("{command:?}") };
    let mut call = Command::new(shell);
    call.arg(flag).arg(script.replace("/workspace", workspace.to_str().unwrap()));
    call.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    call
}

/// A gzipped archive with one file, in blocks of that size.
fn blocks(size: usize) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "x".repeat(3000)).unwrap();
    let tar = Command::new("tar").args(["-cz", "-C"]).arg(directory.path()).arg(".").output().unwrap();
    assert!(tar.status.success());
    let blocks = tar.stdout.chunks(size).map(|block| [format!("{}\n", block.len()).as_bytes(), block].concat());
    blocks.collect::<Vec<_>>().concat()
}

/// What the command says of an input, and whether the context is ready then.
fn received(input: &[u8]) -> (bool, String, bool) {
    use std::io::Write;
    let workspace = tempfile::tempdir().unwrap();
    let mut call = shell(&receive_context(), workspace.path()).spawn().unwrap();
    call.stdin.take().unwrap().write_all(input).unwrap();
    let ended = call.wait_with_output().unwrap();
    let ready = workspace.path().join(".ready").exists();
    let whole = std::fs::read(workspace.path().join("context/file")).is_ok_and(|file| file.len() == 3000);
    assert!(!ready || whole);
    (ended.status.success(), String::from_utf8(ended.stderr).unwrap(), ready)
}

#[test]
fn a_context_is_ready_when_all_of_it_has_come() {
    for size in [1, 7, 100, 1 << 20] {
        let whole = [blocks(size), b"0\n".to_vec()].concat();
        assert_eq!(received(&whole), (true, String::new(), true), "blocks of {size}");
    }
}

#[test]
fn a_context_that_breaks_off_is_never_ready() {
    let whole = blocks(50);
    for end in [0, 1, 20, whole.len() / 2, whole.len() - 1, whole.len()] {
        let (success, said, ready) = received(&whole[..end]);
        assert!(!success && !ready && !said.is_empty(), "{end} of {}: {said}", whole.len());
    }
    // The end, and something else in the place of an archive.
    let (success, said, ready) = received(b"9\nno tar ga0\n");
    assert!(!success && !ready && !said.is_empty(), "{said}");
}

#[test]
fn the_init_container_waits_for_the_context_and_not_for_ever() {
    let container = context::container(&Container::default());
    let command: Vec<String> = container.command.unwrap();
    let workspace = tempfile::tempdir().unwrap();
    std::fs::write(workspace.path().join(".ready"), "").unwrap();
    let ended = shell(&command, workspace.path()).output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");

    // No time passes here; a sign of life half-way begins the wait anew.
    let sleeps = "sleep() { echo >>slept; [ \"$(wc -l <slept)\" != 100 ] || : >.moving; }\n";
    let script = command[2].replacen("idle=0", &format!("cd /workspace; {sleeps}idle=0"), 1);
    let workspace = tempfile::tempdir().unwrap();
    let ended = shell(&[command[0].clone(), command[1].clone(), script], workspace.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "no context has come for 120 s\n");
    assert!(!ended.status.success());
    let slept = std::fs::read_to_string(workspace.path().join("slept")).unwrap().lines().count();
    assert_eq!(slept, 340);
}

#[test]
fn arguments_arrive_as_they_are_given_whatever_dollars_they_have() {
    for (given, rendered) in [("--opt=build-arg:A=$(HOME)", "--opt=build-arg:A=$$(HOME)"), ("a$$b$", "a$$$$b$$")] {
        let job = job(&node("", false), &options(""), "builds", &build(given)).job;
        let args = job.spec.unwrap().template.spec.unwrap().containers[0].args.clone().unwrap();
        assert_eq!(args.last().map(String::as_str), Some(rendered), "{given}");
    }
}
