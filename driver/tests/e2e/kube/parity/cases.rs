//! Sets of options that both programs understand.

/// What is given on the command line.
#[derive(Debug)]
pub(super) struct Case {
    /// Of the node, and so of its objects.
    pub(super) name: &'static str,
    pub(super) opts: &'static [&'static str],
    /// No two cases have the same one: they are nodes of one builder.
    pub(super) platform: &'static str,
    pub(super) flags: &'static str,
    /// A file in the working directory.
    pub(super) config: &'static str,
}

const fn opts(name: &'static str, opts: &'static [&'static str]) -> Case {
    Case { name, opts, platform: "", flags: "", config: "" }
}

const fn platform(name: &'static str, platform: &'static str, opts: &'static [&'static str]) -> Case {
    Case { name, opts, platform, flags: "", config: "" }
}

const fn flags(name: &'static str, flags: &'static str, opts: &'static [&'static str]) -> Case {
    Case { name, opts, platform: "", flags, config: "" }
}

const fn config(name: &'static str, config: &'static str, opts: &'static [&'static str]) -> Case {
    Case { name, opts, platform: "", flags: "", config }
}

pub(super) static CASES: [Case; 54] = [
    opts("nothing", &[]),
    opts("image", &["image=registry.example:5000/buildkit:mine"]),
    opts("image-empty", &["image="]),
    opts("replicas", &["replicas=3"]),
    opts("cpu-request", &["requests.cpu=500m"]),
    opts("cpu-limit", &["limits.cpu=2"]),
    opts("memory-request", &["requests.memory=512Mi"]),
    opts("memory-limit", &["limits.memory=4Gi"]),
    opts("resources", &["requests.cpu=0.5,limits.cpu=2000m", "requests.memory=1G,limits.memory=2Gi"]),
    opts("disk-request", &["requests.ephemeral-storage=1Gi"]),
    opts("disk-limit", &["limits.ephemeral-storage=2Gi"]),
    opts("disk", &["requests.ephemeral-storage=1Gi,limits.ephemeral-storage=2Gi"]),
    opts("rootless", &["rootless=true"]),
    opts("rootless-image", &["rootless=true,image=registry.example/buildkit:rootless"]),
    opts("rootless-false", &["rootless=false"]),
    opts("rootless-false-image", &["rootless=false,image=moby/buildkit:master"]),
    opts("selector", &["nodeselector=disk=ssd"]),
    opts("selectors", &["\"nodeselector=kubernetes.io/arch=arm64,disk=ssd\""]),
    opts("annotation", &["annotations=example.com/team=web"]),
    opts("annotations", &["\"annotations=a=b,cluster-autoscaler.kubernetes.io/safe-to-evict=false\""]),
    opts("label", &["labels=team=web"]),
    opts("labels", &["\"labels=team=web,tier=ci\""]),
    opts("decorated", &["\"labels=team=web,tier=ci\"", "annotations=a=b"]),
    opts("toleration", &["\"tolerations=key=builders,operator=Exists,effect=NoSchedule\""]),
    opts("tolerations", &["\"tolerations=key=a,value=b;key=c,operator=Exists\""]),
    opts("toleration-time", &["\"tolerations=key=a,operator=Exists,effect=NoExecute,tolerationSeconds=60\""]),
    opts("account", &["serviceaccount=builder"]),
    opts("scheduler", &["schedulername=volcano"]),
    opts("random", &["loadbalance=random"]),
    opts("default-load", &["default-load=true"]),
    opts("qemu", &["qemu.install=true"]),
    opts("qemu-image", &["qemu.install=true,qemu.image=registry.example/binfmt:1"]),
    opts("qemu-image-alone", &["qemu.image=registry.example/binfmt:1"]),
    opts("qemu-rootless", &["qemu.install=true,rootless=true"]),
    opts("memory", &["buildkit-root-volume-memory=2Gi"]),
    opts("memory-rootless", &["buildkit-root-volume-memory=2Gi,rootless=true"]),
    opts("volume", &["persistent-volume-claim.requests.storage=10Gi"]),
    opts("volume-replicas", &["persistent-volume-claim.requests.storage=1G,replicas=2"]),
    opts("volume-rootless", &["persistent-volume-claim.requests.storage=10Gi,rootless=true"]),
    opts("volume-resources", &["persistent-volume-claim.requests.storage=10Gi,limits.memory=1Gi,env.A=b"]),
    opts("variable", &["env.HTTPS_PROXY=http://proxy.example:3128"]),
    opts("variables", &["env.A=1", "\"env.NO_PROXY=localhost,10.0.0.0/8,a=b\""]),
    flags("flags", "--debug --oci-max-parallelism 4", &[]),
    flags("entitlement", "--allow-insecure-entitlement security.insecure", &[]),
    flags("flags-rootless", "--debug", &["rootless=true"]),
    platform("platform", "linux/amd64", &[]),
    platform("platforms", "linux/arm64,linux/arm/v7", &["annotations=a=b"]),
    platform("platform-selector", "linux/s390x", &["nodeselector=kubernetes.io/arch=s390x"]),
    platform("platform-qemu", "linux/ppc64le,linux/riscv64", &["qemu.install=true"]),
    config("config", "plain.toml", &[]),
    config("config-keys", "keys.toml", &[]),
    config("config-network", "network.toml", &[]),
    config("config-rootless", "keys.toml", &["rootless=true"]),
    config("config-volume", "plain.toml", &["persistent-volume-claim.requests.storage=10Gi"]),
];

/// In the working directory.
pub(super) const CONFIG_FILES: [(&str, &str); 6] = [
    ("plain.toml", "debug = true\n[worker.oci]\n  max-parallelism = 4 # a comment\n"),
    ("network.toml", "insecure-entitlements = [\"network.host\", \"security.insecure\"]\n"),
    (
        "keys.toml",
        "[registry.\"r.example:5000\"]\n  ca = [\"ca.pem\"]\n  [[registry.\"r.example:5000\".keypair]]\n    \
         key = \"key.pem\"\n    cert = \"cert.pem\"\n[registry.\"docker.io\"]\n  mirrors = [\"mirror.example\"]\n",
    ),
    ("ca.pem", "-----BEGIN CERTIFICATE-----\nca\n"),
    ("key.pem", "-----BEGIN PRIVATE KEY-----\nkey\n"),
    ("cert.pem", "-----BEGIN CERTIFICATE-----\ncert\n"),
];
