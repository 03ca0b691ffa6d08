//! What is refused in a request for a Job, and what becomes of one that is not.

use std::collections::HashMap;

use buildfleet_proto::fleet;

use super::*;

fn problems(spec: JobSpec) -> String {
    Asked::parse(spec).unwrap_err().join("\n")
}

fn address(address: &str, certificates: &str) -> Option<Where> {
    Some(Where::Address(JobAddress {
        address: address.to_owned(),
        certificates: certificates.to_owned(),
        server_name: String::new(),
    }))
}

#[test]
fn what_is_wrong_is_named_by_its_flag() {
    let words = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let secret = |id: &str, size: usize| HashMap::from([(id.to_owned(), vec![0; size])]);
    let named = |name: &str| Some(JobPlace { name: name.to_owned(), ..JobPlace::default() });
    let toml = fleet::BuildkitdConfig { toml: "debug = true\n".to_owned(), ..fleet::BuildkitdConfig::default() };
    for (spec, problem) in [
        (JobSpec { place: named("1st"), ..JobSpec::default() }, "name `1st` has to start with a letter"),
        (JobSpec { arguments: words("--opt a=b --progress tty"), ..JobSpec::default() }, "argument `--progress`: "),
        (JobSpec { arguments: words("--progress=tty"), ..JobSpec::default() }, "argument `--progress`: "),
        (JobSpec { retries: 1, uploads_context: true, ..JobSpec::default() }, "--retries: a context that is uploaded"),
        (JobSpec { secrets: secret("a/b", 1), ..JobSpec::default() }, "--secret `a/b`: an id may hold "),
        (JobSpec { secrets: secret("..", 1), ..JobSpec::default() }, "--secret `..`: an id may hold "),
        (JobSpec { secrets: secret("a", SECRET_MAX + 1), ..JobSpec::default() }, "--secret: they have 1048577 bytes"),
        (JobSpec { docker_config: b"[]".to_vec(), ..JobSpec::default() }, "for registries are no config.json"),
        (JobSpec { platform: words("linux/"), ..JobSpec::default() }, "`linux/`"),
        (JobSpec { driver_opt: words("replicas=2"), ..JobSpec::default() }, "`replicas`: it makes no sense for a job"),
        (JobSpec { buildkitd_flags: "--x='a b'".to_owned(), ..JobSpec::default() }, "--buildkitd-flags `--x=a b`: "),
        (JobSpec { buildkitd_flags: "'".to_owned(), ..JobSpec::default() }, "--buildkitd-flags `'`: "),
        (JobSpec { r#where: address("10.0.0.1:1234", "certs"), ..JobSpec::default() }, "accepted is tcp://HOST:PORT"),
        (JobSpec { r#where: address("tcp://h:no", "certs"), ..JobSpec::default() }, "accepted is tcp://HOST:PORT"),
        (JobSpec { r#where: address("tcp://h:1234", ""), ..JobSpec::default() }, "needs a Secret with ca.pem"),
        (
            JobSpec {
                r#where: Some(Where::Builder("b".to_owned())),
                buildkitd_config: Some(toml),
                ..JobSpec::default()
            },
            "--buildkitd-config: the buildkitd that builds is not the job's own",
        ),
        (
            JobSpec {
                place: Some(JobPlace { namespace: "one".to_owned(), ..JobPlace::default() }),
                driver_opt: words("namespace=two"),
                ..JobSpec::default()
            },
            "driver option `namespace`: it is two, and --namespace is one",
        ),
    ] {
        let found = problems(spec);
        assert!(found.contains(problem) && found.lines().count() == 1, "{problem}: {found}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let spec = JobSpec {
        retries: 1,
        uploads_context: true,
        docker_config: b"no json".to_vec(),
        driver_opt: vec!["replicas=2,loadbalance=random".to_owned()],
        ..JobSpec::default()
    };
    assert_eq!(problems(spec).lines().count(), 4);
}

#[test]
fn a_request_becomes_a_rootless_build_with_a_name() {
    let spec = JobSpec {
        platform: vec!["linux/amd64,linux/arm64".to_owned(), "linux/amd64".to_owned()],
        buildkitd_flags: "--debug --oci-max-parallelism 4".to_owned(),
        docker_config: br#"{"auths":{"r.example":{"auth":"eA=="}}}"#.to_vec(),
        ttl: 60,
        ..JobSpec::default()
    };
    let Asked { wanted, builder, .. } = Asked::parse(spec.clone()).unwrap();
    assert!(builder.is_none() && !wanted.node.name.as_str().is_empty());
    assert_eq!(wanted.node.platforms.len(), 2);
    assert_eq!(wanted.node.buildkitd_flags.len(), 3);
    assert_eq!((wanted.build.ttl, wanted.build.timeout), (Some(60), None));
    assert_eq!(wanted.build.registry, RegistrySecret::Own(spec.docker_config.clone()));

    // A Secret with a name holds the credentials in the place of one that goes with the Job.
    let named = JobSpec { registry_secret: "regcred".to_owned(), ..spec.clone() };
    let wanted = Asked::parse(named).unwrap().wanted;
    let name = "regcred".to_owned();
    assert_eq!(wanted.build.registry, RegistrySecret::Named { name, key: RegistrySecret::KEY.to_owned() });
    assert_eq!(wanted.docker_config, Some(spec.docker_config));
}

#[test]
fn a_build_elsewhere_may_run_on_any_machine() {
    let spec = JobSpec { platform: vec!["linux/arm64".to_owned()], project: "app".to_owned(), ..JobSpec::default() };
    let at = JobSpec { r#where: Some(Where::Builder("kube".to_owned())), ..spec.clone() };
    let asked = Asked::parse(at).unwrap();
    assert_eq!(asked.builder, Some(("kube".to_owned(), "app".to_owned())));
    assert!(asked.wanted.node.platforms.is_empty() && asked.platforms.len() == 1);
    let at = Asked::parse(JobSpec { r#where: address("tcp://h:1234", "certs"), ..spec }).unwrap();
    assert!(at.builder.is_none() && at.wanted.node.platforms.is_empty());
    assert!(matches!(at.wanted.build.place, BuildPlace::Address { .. }));
}
