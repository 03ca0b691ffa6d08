//! Builders for the tests of what is printed.

use buildfleet_proto::fleet::{Builder, Node, Pod};

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// One Kubernetes builder of two nodes, the second in trouble, and one local builder that was never started.
pub(super) fn builders() -> Vec<Builder> {
    let kube0 = Node {
        name: "kube0".into(),
        endpoint: "kubernetes:///kube?deployment=kube0".into(),
        socket: "/run/buildfleet/nodes/kube0.sock".into(),
        status: "running".into(),
        driver_opts: [("replicas".into(), "2".into()), ("namespace".into(), "builds".into())].into(),
        buildkitd_flags: strings(&["--debug", "--oci-worker-gc=false"]),
        platforms: strings(&["linux/amd64"]),
        worker_platforms: strings(&["linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/386"]),
        buildkit_version: "v0.33.1".into(),
        wanted: 2,
        pods: vec![
            Pod {
                name: "kube0-7d4b9c6f5-abcde".into(),
                status: "ready".into(),
                host: "node-1".into(),
                builds: 3,
                transport: "pod-ip".into(),
                ..Pod::default()
            },
            Pod {
                name: "kube0-7d4b9c6f5-fghij".into(),
                status: "failed".into(),
                reason: "OOMKilled".into(),
                host: "node-2".into(),
                ..Pod::default()
            },
        ],
        worker_labels: [
            ("org.mobyproject.buildkit.worker.executor".into(), "oci".into()),
            ("org.mobyproject.buildkit.worker.snapshotter".into(), "overlayfs".into()),
        ]
        .into(),
        ..Node::default()
    };
    let kube1 = Node {
        name: "kube1".into(),
        endpoint: "kubernetes:///kube?deployment=kube1".into(),
        socket: "/run/buildfleet/nodes/kube1.sock".into(),
        status: "error".into(),
        reason: "kube1-5f7d8-xyz: pull failed: manifest unknown".into(),
        platforms: strings(&["linux/arm64"]),
        wanted: 1,
        ..Node::default()
    };
    let local0 = Node {
        name: "local0".into(),
        endpoint: "local://".into(),
        socket: "/run/buildfleet/nodes/local0.sock".into(),
        status: "stopped".into(),
        ..Node::default()
    };
    let mut kube = Builder {
        name: "kube".into(),
        driver: "kubernetes".into(),
        current: true,
        nodes: vec![kube0, kube1],
        socket: "/run/buildfleet/builders/kube.sock".into(),
        last_activity: Some(Default::default()),
        ..Builder::default()
    };
    if let Some(last) = kube.last_activity.as_mut() {
        last.seconds = 1_795_259_773;
        last.nanos = 5;
    }
    let local = Builder {
        name: "local".into(),
        driver: "local".into(),
        nodes: vec![local0],
        socket: "/run/buildfleet/builders/local.sock".into(),
        ..Builder::default()
    };
    vec![kube, local]
}
