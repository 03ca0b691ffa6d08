//! A machine of the cluster that is emptied.

use crate::kube::drain::builds_outlive;
use crate::support::call::Call;
use crate::support::scene::Scene;
use crate::support::tools::cluster;

/// A machine that gets no pods until the test has ended.
struct Cordoned(String);

impl Drop for Cordoned {
    fn drop(&mut self) {
        let _ = Call::new(&cluster().kubectl).arg("uncordon").arg(&self.0).end();
    }
}

#[test]
fn builds_outlive_the_eviction_from_a_drained_machine() {
    let scene = Scene::kube();
    // The order is for all namespaces, and no other test has pods of this name.
    let namespace = scene.namespace().name();
    let opts = format!("--driver kubernetes --driver-opt namespace={namespace} --bootstrap");
    let builder = scene.create("evicted", &opts);
    let mut cordoned = None;
    let mut drained = None;
    builds_outlive(&scene, &builder, |pod| {
        let machine = scene.namespace().machine_of(pod);
        cordoned = Some(Cordoned(machine.clone()));
        let drain = Call::new(&cluster().kubectl).words("drain --pod-selector app=evicted0 --delete-emptydir-data");
        drained = Some(drain.arg(machine).start());
    });
    drained.expect("it was asked for").end().succeeded().says("evicted");
    let pod = builder.has_ready(1).remove(0);
    assert_ne!(Some(scene.namespace().machine_of(&pod)), cordoned.map(|machine| machine.0.clone()));
}
