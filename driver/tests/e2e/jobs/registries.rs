//! Pushes to a registry that wants TLS by an authority of its own, and a password.

use std::collections::HashMap;

use buildfleet_proto::fleet::{BuildkitdConfig, JobSpec, JobState};

use crate::support::jobs::{Jobs, directory};
use crate::support::scene::Scene;
use crate::support::service::Registry;

#[test]
fn a_registry_is_pushed_to_with_its_password_and_its_authority_and_not_without() {
    let scene = Scene::kube();
    let jobs = Jobs::of(&scene, scene.namespace().name());
    let registry = Registry::start(&scene.path("registry-of-job"));
    registry.log_in(&scene.path("docker"));
    let docker_config = std::fs::read(scene.path("docker/config.json")).expect("somebody is logged in");
    let authority = std::fs::read_to_string(registry.authority()).expect("a certificate");
    let file = "certs/registry/ca.pem".to_owned();
    let config = BuildkitdConfig {
        toml: format!("[registry.\"{}\"]\nca = [\"{file}\"]\n", registry.host()),
        files: HashMap::from([(file, authority)]),
    };
    let context = scene.contexts().with("pushed-by-job", "");
    let output = format!("--output type=image,name={},push=true", registry.image("job"));
    let spec = |name: &str| JobSpec { buildkitd_config: Some(config.clone()), ..jobs.spec(name, &output) };

    let stranger = JobSpec { buildkitd_config: None, docker_config: docker_config.clone(), ..spec("stranger") };
    let named = |name: &str| JobSpec { registry_secret: "regcred".to_owned(), ..spec(name) };
    let makes_secret = JobSpec { docker_config: docker_config.clone(), ..named("makes-secret") };
    // Nobody has made the Secret yet.
    let missing = jobs.run(named("too-early"), Some(directory(&context))).fails();
    assert!(missing.message().contains("there is no Secret regcred in namespace"), "{missing:?}");

    let mut runs = vec![
        (jobs.run(spec("refused"), Some(directory(&context))), Some("401 Unauthorized")),
        (jobs.run(stranger, Some(directory(&context))), Some("certificate")),
        (jobs.run(JobSpec { docker_config, ..spec("welcome") }, Some(directory(&context))), None),
    ];
    for (run, refusal) in &mut runs {
        let end = run.end();
        match refusal {
            Some(refusal) => {
                assert_eq!((end.exit_code, end.state()), (Some(1), JobState::JobFailed), "{}", run.output());
                assert_eq!(end.reason, "exit code 1");
                assert!(run.output().contains(*refusal), "{refusal}: {}", run.output());
            }
            None => assert_eq!(end.exit_code, Some(0), "{}", run.output()),
        }
    }
    // The Secret is made once, by its name, and stays for the next.
    for spec in [makes_secret, named("uses-secret")] {
        let mut run = jobs.run(spec, Some(directory(&context)));
        assert_eq!(run.end().exit_code, Some(0), "{}", run.output());
    }
    for job in jobs.list() {
        jobs.remove(&job.name).expect("it is there");
    }
    scene.namespace().kubectl("delete secret regcred").succeeds();
    scene.namespace().empties();
}
