//! Kinds of pods that keep their cache, or their users, in another way.

use serde_json::json;

use super::one_pod;
use crate::support::builder::Builder;
use crate::support::clock::{seconds, wait_for};
use crate::support::scene::Scene;
use crate::support::volume::Volume;

/// Root in the pod is nobody on the machine, and in a step neither.
pub(super) fn have_users_of_their_own(scene: &Scene, builder: &Builder<'_>) {
    let pod = builder.ready_pods().remove(0);
    assert_eq!(scene.namespace().pod(&pod)["spec"]["hostUsers"], json!(false));
    let context = scene.contexts().with("users", "RUN cat /proc/self/uid_map && id -u\n");
    let built = builder.buildx(&context, "--no-cache").succeeds();
    let maps = |line: &str| {
        let ids: Vec<u64> = line.split_whitespace().skip(2).filter_map(|word| word.parse().ok()).collect();
        matches!(ids[..], [0, outside, _] if outside > 0)
    };
    assert!(built.stderr.lines().any(maps), "the step's root is the machine's: {built}");
}

pub(super) fn keep_their_cache_on_a_volume(scene: &Scene) {
    let _volume = Volume::make(scene);
    let builder = one_pod(scene, "kept", "--driver-opt persistent-volume-claim.requests.storage=1Gi");
    let context = scene.contexts().with("kept", "RUN echo \"made once $((6 * 7))\"\n");
    builder.buildx(&context, "").succeeds().says("made once 42");
    // Gone at once, as with its machine.
    is_replaced(scene, &builder, "--grace-period=0 --force");
    builder.buildx(&context, "").succeeds().says("CACHED").says_nothing_of("made once 42");
    is_replaced(scene, &builder, "");
    builder.buildctl(&context, "").succeeds().says("CACHED").says_nothing_of("made once 42");
    builder.remove();
}

pub(super) fn lose_their_cache_in_memory(scene: &Scene) {
    let builder = one_pod(scene, "quick", "--driver-opt buildkit-root-volume-memory=512Mi");
    let pod = builder.ready_pods().remove(0);
    let mounts = scene.namespace().kubectl("exec").arg(&pod).words("-- grep /var/lib/buildkit /proc/mounts").succeeds();
    mounts.says("tmpfs /var/lib/buildkit tmpfs").says("size=524288k");
    let context = scene.contexts().with("quick", "RUN echo \"made twice $((6 * 7))\"\n");
    builder.buildx(&context, "").succeeds().says("made twice 42");
    builder.buildx(&context, "").succeeds().says("CACHED").says_nothing_of("made twice 42");
    is_replaced(scene, &builder, "");
    builder.buildx(&context, "").succeeds().says("made twice 42");
}

/// Deletes the builder's only pod, and waits for another one.
fn is_replaced(scene: &Scene, builder: &Builder<'_>, how: &str) {
    let uid = |pod: &str| scene.namespace().pod(pod)["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let pod = builder.ready_pods().remove(0);
    let before = uid(&pod);
    scene.namespace().kubectl("delete pod").arg(&pod).words(how).succeeds();
    // That of a StatefulSet has the same name again.
    wait_for("another pod", seconds(60), || {
        let ready = builder.ready_pods();
        ready.first().filter(|pod| uid(pod) != before).map(|_| ())
    });
}
