//! Builds that come to their end: in a pod of their own, rootless, with an uploaded context.

use buildfleet_proto::fleet::JobState;

use crate::support::jobs::{Jobs, directory};
use crate::support::registry;
use crate::support::scene::Scene;

#[test]
fn a_context_is_built_in_a_pod_of_its_own_and_pushed() {
    let scene = Scene::kube();
    let jobs = Jobs::of(&scene, scene.namespace().name());
    let context = scene
        .contexts()
        .with("job", "RUN --mount=type=secret,id=word cat /run/secrets/word && echo \"said $((6 * 7))\"\n");
    let image = registry::image("job");
    let output = format!("--output type=image,name={image},push=true,registry.insecure=true");
    let mut spec = jobs.spec("first", &format!("{output} --secret id=word,src=/run/buildfleet/secrets/word"));
    spec.secrets.insert("word".to_owned(), b"shibboleth\n".to_vec());
    spec.title = image.clone();
    let mut run = jobs.run(spec, Some(directory(&context)));
    assert_eq!(run.job().name, "first");
    let end = run.end();
    println!("{}\n{}", run.news(), run.output());
    assert_eq!((end.exit_code, end.state()), (Some(0), JobState::JobSucceeded), "{end:?}");
    assert!(run.output().contains("said 42") && run.output().contains("shibboleth"), "{}", run.output());
    registry::manifest(&image);

    let listed = jobs.list();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].title.as_str(), listed[0].state()), (image.as_str(), JobState::JobSucceeded));
    // Another one hears the same afterwards.
    let mut again = jobs.follow("first", true);
    assert_eq!(again.end(), end);
    assert_eq!(again.output(), run.output());
    jobs.remove("first").unwrap();
    scene.namespace().empties();
}
