//! A pod that takes longer to start than any client's patience for a silent server.

use std::time::Instant;

use crate::support::call::Call;
use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::support::tools::cluster;

/// Three times the longest time that a client gives a server to answer (buildx: 20 s, its session: 30 s).
const COLD: std::time::Duration = seconds(90);

/// A label of a machine, taken away at the end.
struct Label(String);

impl Label {
    fn put(name: String) -> Self {
        Call::new(&cluster().kubectl).words(&format!("label node node-amd64 {name}=yes")).succeeds();
        Self(name)
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        let _ = Call::new(&cluster().kubectl).words(&format!("label node node-amd64 {}-", self.0)).end();
    }
}

#[test]
fn no_client_loses_its_patience_with_a_pod_that_takes_90_seconds() {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let label = format!("buildfleet-{namespace}");
    let opts = format!("namespace={namespace},nodeselector={label}=yes");
    let builder = scene.create("cold", &format!("--driver kubernetes --driver-opt {opts}"));
    let hello = scene.contexts().hello();

    // No machine has the label: the pod waits for it, and the clients for the pod.
    let began = Instant::now();
    let mut builds = [
        builder.buildctl(&hello, "").within(seconds(150)).start(),
        builder.buildx(&hello, "").within(seconds(150)).start(),
        scene.buildfleet("inspect cold --bootstrap").within(seconds(150)).start(),
    ];
    builds[2].says("cannot be scheduled");
    while began.elapsed() < COLD {
        for build in &mut builds {
            assert!(build.runs(), "a client gave up after {:?}: {}", began.elapsed(), build.text());
        }
        std::thread::sleep(seconds(1));
    }
    let _label = Label::put(label);
    let [buildctl, buildx, bootstrap] = builds;
    for build in [buildctl, buildx] {
        let ended = build.end().succeeded();
        assert!(ended.took > COLD);
        // The wait was a step of the build's own progress.
        ended.says("[buildfleet] starting cold0").says("cannot be scheduled").says("building on cold0-");
    }
    bootstrap.end().succeeded();
    // `buildx create` and `ls` did not add a pod.
    assert_eq!(builder.ready_pods().len(), 1);
}
