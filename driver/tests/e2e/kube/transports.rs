//! Every way to a pod, with privileged and with rootless pods.

use crate::builds;
use crate::support::scene::Scene;

#[test]
fn privileged_pods_are_reached_by_each_transport() {
    reached_by_each_transport("false");
}

#[test]
fn rootless_pods_are_reached_by_each_transport() {
    reached_by_each_transport("true");
}

fn reached_by_each_transport(rootless: &str) {
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let hello = scene.contexts().hello();
    // The pods' network is this one, so the address of a pod answers, and is the fastest.
    for (name, asked, taken) in [
        ("by-exec", "exec", "exec"),
        ("by-port-forward", "port-forward", "port-forward"),
        ("by-pod-ip", "pod-ip", "pod-ip"),
        ("by-any", "auto", "pod-ip"),
    ] {
        let opts = format!("namespace={namespace},rootless={rootless},transport={asked}");
        let builder = scene.create(name, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
        let pods = builder.pods();
        assert_eq!((pods.len(), pods[0]["Transport"].as_str()), (1, Some(taken)), "{pods:#?}");

        let pod = scene.namespace().pod(pods[0]["Name"].as_str().expect("a name"));
        let privileged = pod["spec"]["containers"][0]["securityContext"]["privileged"].as_bool().unwrap_or_default();
        assert_eq!(privileged, rootless == "false");

        builder.buildctl(&hello, "").succeeds().says("machine: x86_64");
        builder.buildx(&hello, "").succeeds().says("CACHED");
        if taken == "exec" || taken == "port-forward" {
            builds::every_output_arrives(&scene, &builder);
            builds::secrets_reach_the_step_alone(&scene, &builder);
        }
        builder.remove();
    }
    scene.has_no_builder();
    scene.namespace().empties();
}
