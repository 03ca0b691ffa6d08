//! Pods, nodes and API servers of which nothing is heard any more: told in time, by name, and only to those who need them.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::deaths::over_each_transport;
use crate::support::builder::Builder;
use crate::support::call::{Call, Outcome, Running};
use crate::support::clock::seconds;
use crate::support::contexts::BEGINS;
use crate::support::relay::Relay;
use crate::support::scene::Scene;
use crate::support::tools::cluster;

/// From the moment of silence to the client's error.
const TOLD: Duration = seconds(3);

/// Takes the pod off its network: its packets are lost, and nobody is told. Returns when that was.
fn cut_off(scene: &Scene, pod: &str) -> Instant {
    let pid = scene.namespace().buildkitd_of(pod).to_string();
    let inside = Call::new("nsenter").arg("--target").arg(pid).words("--net ip -o link show eth0").succeeds();
    // `2: eth0@if7: …`: the other end has number 7 outside.
    let number = inside.word().split("@if").nth(1).and_then(|rest| rest.split(':').next()).expect("a pair").to_owned();
    let outside = Call::new("ip").words("-o link").succeeds();
    let line = outside.stdout.lines().find(|line| line.starts_with(&format!("{number}: "))).expect("the other end");
    let name = line.split(' ').nth(1).and_then(|name| name.split('@').next()).expect("a name");
    let cut = Instant::now();
    Call::new("ip").words("link set").arg(name).arg("down").succeeds();
    cut
}

/// Stops the pod's process where it stands. Returns when that was.
fn freeze(scene: &Scene, pod: &str) -> (Pid, Instant) {
    let frozen = Pid::from_raw(scene.namespace().buildkitd_of(pod));
    kill(frozen, Signal::SIGSTOP).expect("the pod's buildkitd runs");
    (frozen, Instant::now())
}

fn begun(scene: &Scene, builder: &Builder<'_>, buildx: bool, lasts: u32) -> Running {
    let slow = scene.contexts().slow(&format!("slow-{lasts}"), lasts);
    let build = if buildx { builder.buildx(&slow, "--no-cache") } else { builder.buildctl(&slow, "--no-cache") };
    let build = build.start();
    build.says(BEGINS);
    build
}

fn told_in_time(what: &str, since: Instant, build: Running) -> Outcome {
    let failed = build.end().failed();
    println!("{what}: told after {:?}", failed.ended - since);
    assert!(failed.ended < since + TOLD, "{what}: told after {:?}: {failed}", failed.ended - since);
    failed
}

/// A kubeconfig by which the API server is reached through the relay.
fn relayed(scene: &mut Scene) -> Relay {
    let config = fs::read_to_string(&cluster().kubeconfig).expect("the cluster's kubeconfig");
    let server = config.split("https://").nth(1).and_then(|rest| rest.split('"').next()).expect("a server").to_owned();
    let relay = Relay::to(server.parse().expect("an address"));
    let file = scene.path("relayed.yaml");
    fs::write(&file, config.replace(&server, &relay.address().to_string())).expect("a file of our own");
    scene.set("KUBECONFIG", file);
    relay
}

/// Its builds are not begun anew, so that their ends are seen.
fn by<'a>(scene: &'a Scene, transport: &'static str) -> Builder<'a> {
    let opts = format!("namespace={},transport={transport},retry=off", scene.namespace().name());
    scene.create(transport, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"))
}

#[test]
fn a_pod_that_is_cut_off_from_the_network_is_named_in_time() {
    let scene = Scene::kube();
    for buildx in [false, true] {
        let builder = by(&scene, "pod-ip");
        let pod = builder.has_ready(1).remove(0);
        let build = begun(&scene, &builder, buildx, 40);
        let cut = cut_off(&scene, &pod);
        told_in_time("pod-ip, cut off", cut, build).says(&pod).says("has not answered for").says(" on node-");
        builder.remove();
    }
}

#[test]
fn a_pod_too_busy_to_answer_is_named_in_time_when_it_is_cut_off() {
    let scene = Scene::kube();
    let builder = by(&scene, "pod-ip");
    let pod = builder.has_ready(1).remove(0);
    let build = begun(&scene, &builder, false, 40);
    let (frozen, _) = freeze(&scene, &pod);
    // Its kernel still acknowledges, so it is not given up.
    std::thread::sleep(seconds(4));
    let cut = cut_off(&scene, &pod);
    told_in_time("pod-ip, frozen and cut off", cut, build).says(&pod).says("has not answered for");
    kill(frozen, Signal::SIGCONT).expect("the pod's buildkitd runs");
}

#[test]
fn a_pod_whose_machine_stands_still_is_named_in_time() {
    let scene = Scene::kube();
    for transport in ["exec", "port-forward"] {
        let builder = by(&scene, transport);
        for buildx in [false, true] {
            let pod = builder.has_ready(1).remove(0);
            let build = begun(&scene, &builder, buildx, 40);
            let (frozen, since) = freeze(&scene, &pod);
            let told = told_in_time(&format!("{transport}, frozen"), since, build);
            told.says(&pod).says("has not answered for").says(" on node-");
            assert_eq!(builder.ready_pods(), [""; 0], "a silent pod is not ready");
            kill(frozen, Signal::SIGCONT).expect("the pod's buildkitd runs");
            builder.has_ready(1);
            builder.buildctl(&scene.contexts().hello(), "").succeeds();
        }
        builder.remove();
    }
}

#[test]
fn a_build_on_a_silent_pod_is_begun_anew_on_another_in_time() {
    let scene = Scene::kube();
    for transport in ["exec", "pod-ip"] {
        let opts = format!("namespace={},transport={transport},replicas=2", scene.namespace().name());
        let builder = scene.create(transport, &format!("--driver kubernetes --driver-opt {opts} --bootstrap"));
        builder.has_ready(2);
        let build = begun(&scene, &builder, true, 8);
        let pod = builder.busy_pods().remove(0);
        let (frozen, since) = if transport == "exec" {
            let (frozen, since) = freeze(&scene, &pod);
            (Some(frozen), since)
        } else {
            (None, cut_off(&scene, &pod))
        };
        build.says("starting again on another pod of");
        println!("{transport}, begun anew: told after {:?}", since.elapsed());
        assert!(since.elapsed() < TOLD, "told after {:?}", since.elapsed());
        build.end().succeeded().says(&format!("pod {pod} on node-")).says("has not answered for");
        // So that it can end.
        if let Some(frozen) = frozen {
            kill(frozen, Signal::SIGCONT).expect("the pod's buildkitd runs");
        }
        builder.remove();
    }
}

#[test]
fn an_api_server_that_falls_silent_ends_only_the_builds_that_need_it() {
    for transport in ["exec", "port-forward", "pod-ip"] {
        let mut scene = Scene::kube();
        let relay = relayed(&mut scene);
        let builder = by(&scene, transport);
        let pod = builder.has_ready(1).remove(0);
        let needs_it = transport != "pod-ip";
        let build = begun(&scene, &builder, false, if needs_it { 40 } else { 8 });
        let since = Instant::now();
        relay.fall_silent();
        if needs_it {
            told_in_time(&format!("{transport}, silent API server"), since, build)
                .says(&pod)
                .says("has not answered for");
        } else {
            build.end().succeeded();
            builder.buildctl(&scene.contexts().hello(), "").succeeds();
        }
    }
}

#[test]
fn an_api_server_that_is_gone_ends_only_the_builds_that_need_it() {
    for transport in ["exec", "port-forward", "pod-ip"] {
        let mut scene = Scene::kube();
        let mut relay = relayed(&mut scene);
        let builder = by(&scene, transport);
        let pod = builder.has_ready(1).remove(0);
        let needs_it = transport != "pod-ip";
        let build = begun(&scene, &builder, false, if needs_it { 40 } else { 8 });
        let since = Instant::now();
        relay.be_gone();
        if needs_it {
            told_in_time(&format!("{transport}, no API server"), since, build).says(&pod).says("the API server");
        } else {
            build.end().succeeded();
            // Long enough for the daemon to know that it knows nothing.
            std::thread::sleep(seconds(5));
            builder.buildctl(&scene.contexts().hello(), "").succeeds();
            builder.buildx(&scene.contexts().hello(), "").succeeds();
        }
    }
}

#[test]
fn a_pod_without_time_to_breathe_is_not_taken_for_dead() {
    let scene = Scene::kube();
    let busy =
        "RUN for i in 1 2 3 4 5 6; do (timeout 12 sh -c 'while :; do :; done' &) ; done; sleep 13; echo survived\n";
    let busy = scene.contexts().with("busy", busy);
    over_each_transport(&scene, "limits.cpu=200m,requests.cpu=10m", |builder, _| {
        builder.buildctl(&busy, "").succeeds().says("survived");
    });
}
