//! Builds whose `buildkitd` is elsewhere: a builder's, by placement, or one at an address; and contexts that the pod fetches.

use buildfleet_proto::fleet::job_spec::Where;
use buildfleet_proto::fleet::{JobAddress, JobSpec};

use crate::support::call::Call;
use crate::support::jobs::{Jobs, directory};
use crate::support::namespace::Namespace;
use crate::support::scene::Scene;
use crate::support::service::Git;
use crate::support::tools::cluster;

#[test]
fn a_job_builds_in_a_builders_pod_or_at_an_address_without_rights_of_its_own() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let builder = scene.create("kube", &format!("--driver kubernetes --driver-opt namespace={namespace},replicas=1"));
    let jobs = Jobs::of(&scene, namespace);
    // Nothing that a namespace could forbid is in such a pod.
    let context = scene.contexts().with("elsewhere", "RUN echo \"said $((6 * 7))\"\n");
    let at_builder = Some(Where::Builder("kube".to_owned()));
    let spec = |name: &str| JobSpec { r#where: at_builder.clone(), project: "app".to_owned(), ..jobs.spec(name, "") };
    let mut run = jobs.run(spec("by-builder"), Some(directory(&context)));
    assert_eq!(run.end().exit_code, Some(0), "{} {}", run.news(), run.output());
    assert!(run.output().contains("said 42"), "{}", run.output());
    // Its cache is the builder's.
    let mut again = jobs.run(spec("by-builder-again"), Some(directory(&context)));
    assert_eq!(again.end().exit_code, Some(0));
    assert!(again.output().contains("CACHED"), "{}", again.output());

    let other = Namespace::make();
    let elsewhere = Jobs::of(&scene, other.name());
    let refused = elsewhere.run(JobSpec { place: Some(elsewhere.place("far")), ..spec("far") }, None).fails();
    let told = format!("the pods of node kube0 are in namespace {namespace}, and the job would be in {}", other.name());
    assert_eq!(refused.message(), told);

    // The same buildkitd, as one that somebody else runs: by its address and a Secret for its clients.
    let pod = builder.ready_pods().remove(0);
    let ip = scene.namespace().pod(&pod)["status"]["podIP"].as_str().expect("an address").to_owned();
    let secret = scene.namespace().kubectl("get secret kube0-tls --output json").succeeds().json();
    let clients = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "clients" },
        "data": {
            "ca.pem": secret["data"]["ca.pem"], "cert.pem": secret["data"]["client-cert.pem"],
            "key.pem": secret["data"]["client-key.pem"],
        },
    });
    let file = scene.path("clients.json");
    std::fs::write(&file, clients.to_string()).expect("a file of our own");
    let git = Git::serve(&scene.path("git"), &context);
    let at = |certificates: &str| JobSpec {
        uploads_context: false,
        arguments: ["--frontend", "dockerfile.v0", "--opt", &format!("context={}", git.url())]
            .map(str::to_owned)
            .to_vec(),
        r#where: Some(Where::Address(JobAddress {
            address: format!("tcp://{ip}:1234"),
            certificates: certificates.to_owned(),
            server_name: "buildkitd.buildfleet.internal".to_owned(),
        })),
        ..jobs.spec("by-address", "")
    };
    let missing = jobs.run(at("clients"), None).fails();
    assert!(missing.message().contains("there is no Secret clients in namespace"), "{missing:?}");
    scene.namespace().kubectl("apply -f").arg(&file).succeeds();
    let mut run = jobs.run(at("clients"), None);
    assert_eq!(run.end().exit_code, Some(0), "{} {}", run.news(), run.output());
    assert!(run.output().contains(&git.commit()), "{}", run.output());

    // What is printed is what the cluster takes.
    for spec in
        [at("clients"), JobSpec { uploads_context: false, ..jobs.spec("rendered", "") }, jobs.spec("uploaded", "")]
    {
        let mut spec = spec;
        // Not the name of one that is there.
        spec.place = Some(jobs.place("rendered"));
        spec.secrets.insert("word".to_owned(), b"shibboleth".to_vec());
        let yaml = jobs.render(spec);
        assert!(!yaml.contains("c2hpYmJvbGV0aA"), "{yaml}");
        let file = scene.path("rendered.yaml");
        std::fs::write(&file, yaml).expect("a file of our own");
        Call::new(&cluster().kubectl).words("create --dry-run=server -f").arg(&file).succeeds();
    }
    for job in jobs.list() {
        jobs.remove(&job.name).expect("it is there");
    }
    scene.namespace().kubectl("delete secret clients").succeeds();
    builder.remove();
    scene.namespace().empties();
}
