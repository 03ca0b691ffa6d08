//! Rights beyond a step's own: the network of the host, and the powers of root.

use crate::support::builder::Builder;
use crate::support::clock::seconds;
use crate::support::scene::Scene;

const NETWORK: &str = "RUN --network=host echo \"network $((6 * 7))\"\n";
/// Only root of the machine, or of a user namespace, may mount.
const MOUNT: &str = "mkdir /there && mount -t tmpfs none /there && echo \"mounted $((6 * 7))\"\n";

/// Those that a builder's `buildkitd` allows by default are for who asks for them; the others are for nobody.
pub(super) fn are_refused_unless_asked_for(scene: &Scene, builder: &Builder<'_>) {
    let network = scene.contexts().with("network", NETWORK);
    builder.buildx(&network, "").fails().says("network.host");
    builder.buildctl(&network, "").fails().says("network.host is not allowed");
    builder.buildx(&network, "--allow network.host").succeeds().says("network 42");
    builder.buildctl(&network, "--allow network.host --no-cache").succeeds().says("network 42");
    // For all steps at once, which need not ask for it.
    let bare = scene.contexts().with("bare", "RUN echo \"network $((40 + 3))\"\n");
    builder.buildx(&bare, "--network host").succeeds().says("network 43");

    let insecure = scene.contexts().with("insecure", &format!("RUN --security=insecure {MOUNT}"));
    // The second is refused before there is a build; plain BuildKit and its client take 5 s to be done with that.
    for words in ["", "--allow security.insecure"] {
        let refused = builder.buildx(&insecure, words).fails().faster_than(seconds(5));
        refused.says("security.insecure").says("not allowed").says_nothing_of("no such job");
        let refused = builder.buildctl(&insecure, words).fails().faster_than(seconds(5));
        refused.says("security.insecure").says("not allowed").says_nothing_of("no such job");
    }
}

pub(super) fn are_given_when_the_daemon_allows_them(scene: &Scene, builder: &Builder<'_>) {
    let plain = scene.contexts().with("plain", &format!("RUN {MOUNT}"));
    builder.buildx(&plain, "--allow security.insecure").fails().says("ermission").says_nothing_of("mounted 42");
    let insecure = scene.contexts().with("insecure", &format!("RUN --security=insecure {MOUNT}"));
    builder.buildx(&insecure, "").fails().says("security.insecure");
    builder.buildx(&insecure, "--allow security.insecure").succeeds().says("mounted 42");
    builder.buildctl(&insecure, "--allow security.insecure --no-cache").succeeds().says("mounted 42");
    // A list that names only one of them is the whole list.
    let network = scene.contexts().with("network", NETWORK);
    builder.buildx(&network, "--allow network.host").fails().says("network.host");
}
