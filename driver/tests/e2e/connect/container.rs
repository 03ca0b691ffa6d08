//! `docker-container://`: a `buildkitd` in a container of a real engine.

use std::path::Path;

use crate::support::clock::seconds;
use crate::support::scene::Scene;
use crate::ways::load::Engine;

/// All but what the machine of the tests may lack itself, and what `buildkitd` mounts.
const RUN: &str = "run --detach --name team_buildkitd --network host --cap-add ALL --cap-drop SYS_RESOURCE \
                   --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                   --security-opt systempaths=unconfined --volume /sys/fs/cgroup:/sys/fs/cgroup";

#[test]
fn a_buildkitd_in_a_container_is_entered_through_the_context_that_the_address_names() {
    let scene = Scene::local();
    let engine = Engine::start(&scene.path("engine"));
    let rig = std::env::var_os("BUILDFLEET_RIG").expect("the rig's variable");
    engine.docker("load --quiet --input").arg(Path::new(&rig).join("images/images.tar")).succeeds();
    let state = format!("{}:/var/lib/buildkit", scene.path("state-of-it").display());
    let run = engine.docker(RUN).arg("--volume").arg(state);
    run.words("moby/buildkit:buildx-stable-1 --oci-worker-net host").succeeds();
    // The daemon is told of the engine by the address alone.
    let context = format!("context create far --docker host={}", engine.address());
    scene.shell(&format!("docker {context}")).succeeds();

    let address = "docker-container://team_buildkitd?context=far";
    let builder = scene.create("team", &format!("--driver remote --bootstrap {address}"));
    let hello = scene.contexts().hello();
    builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
    builder.buildx(&hello, "").succeeds().says("CACHED");
    scene.shell(&format!("buildctl --addr {address} debug workers")).succeeds();
    assert_eq!(builder.pods()[0]["Transport"], "container");
    assert_eq!(builder.node(0)["Endpoint"], address);
    scene.buildfleet("logs team0").succeeds().says("running server on");
    scene.buildfleet("doctor team").succeeds().says(address);

    // A container that is not there, and one that does not run.
    let create = "create --name gone --driver remote --timeout 5s --bootstrap docker-container://none?context=far";
    scene.buildfleet(create).fails().says("No such container: none").faster_than(seconds(20));
    engine.docker("stop --time 5 team_buildkitd").succeeds();
    scene.buildfleet("doctor team").fails().says("is not running").says("`docker start NAME`");
    engine.docker("start team_buildkitd").succeeds();
    builder.buildctl(&hello, "").succeeds().says("CACHED");
    builder.remove();
    assert_eq!(engine.docker("inspect --format {{.State.Running}} team_buildkitd").succeeds().word(), "true");
    engine.docker("rm --force team_buildkitd").succeeds();
}
