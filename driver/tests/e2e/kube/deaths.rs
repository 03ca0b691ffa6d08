//! Pods that end in the middle of builds, many times.

use std::time::Instant;

use crate::support::builder::Builder;
use crate::support::clock::seconds;
use crate::support::contexts::BEGINS;
use crate::support::scene::Scene;

/// One after the other, each with a build in the middle.
fn survives_kills(scene: &Scene, builder: &Builder<'_>, lane: usize, kills: usize) {
    for kill in 0..kills {
        let slow = scene.contexts().slow(&format!("lane-{lane}-{kill}"), 3);
        let build = if kill % 2 == 0 { builder.buildctl(&slow, "") } else { builder.buildx(&slow, "") };
        let build = build.within(seconds(60)).start();
        build.says(BEGINS);
        let pod = builder.busy_pods().remove(0);
        scene.namespace().kill(&pod);
        build.end().succeeded().says(&pod);
    }
}

#[test]
fn fifty_pods_that_are_killed_in_mid_build_cost_no_build() {
    const NAMES: [&str; 5] = ["lane-a", "lane-b", "lane-c", "lane-d", "lane-e"];
    let scene = Scene::kube();
    let namespace = scene.namespace().name();
    let begun = Instant::now();
    let builders = NAMES.map(|name| {
        let opts = format!("namespace={namespace},replicas=2");
        scene.create(name, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"))
    });
    std::thread::scope(|threads| {
        for (lane, builder) in builders.iter().enumerate() {
            let scene = &scene;
            threads.spawn(move || survives_kills(scene, builder, lane, 10));
        }
    });
    println!("50 kills and 50 builds in {:?}", begun.elapsed());
}
