//! How what buildfleet makes differs from what stock buildx makes, and why.

/// A difference that is meant.
#[derive(Debug)]
pub(super) struct Difference {
    /// The cases that may have it, with spaces between them; `*` stands for any text, here and below.
    cases: &'static str,
    path: &'static str,
    stock: Is,
    ours: Is,
    /// As docs/compat.md has it.
    pub(super) reason: &'static str,
}

/// What a field is on one side.
#[derive(Debug, Clone, Copy)]
enum Is {
    Absent,
    Given(&'static str),
}

use Is::{Absent, Given};

const ANY: Is = Given("*");

impl Difference {
    pub(super) fn allows(&self, case: &str, path: &str, stock: Option<&str>, ours: Option<&str>) -> bool {
        let is = |wanted: Is, value: Option<&str>| match (wanted, value) {
            (Absent, None) => true,
            (Given(pattern), Some(value)) => fits(pattern, value),
            _ => false,
        };
        self.cases.split(' ').any(|pattern| fits(pattern, case))
            && fits(self.path, path)
            && is(self.stock, stock)
            && is(self.ours, ours)
    }
}

/// Whether `text` is what `pattern` says.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            after.is_empty() || rest.char_indices().any(|(at, _)| fits(after, &rest[at..])) || fits(after, "")
        }),
    }
}

const fn differs(path: &'static str, stock: Is, ours: Is, reason: &'static str) -> Difference {
    Difference { cases: "*", path, stock, ours, reason }
}

const fn of(cases: &'static str, path: &'static str, stock: Is, ours: Is, reason: &'static str) -> Difference {
    Difference { cases, path, stock, ours, reason }
}

const TLS: &str = "pods are reached by mTLS where that is faster than exec, with certificates of the node's own";
const DRAIN: &str = "a pod that is told to go waits for its builds, up to `drain-timeout`";
const NOTES: &str = "a builder may be used from several machines: who made it, who uses it, and with which options";
const LIVENESS: &str = "a liveness probe kills a builder that is busy";
const READINESS: &str = "the daemon asks by itself; Kubernetes hears of a pod sooner, and of a busy one as ready";
const PROBE: &str = "a connection costs the pod no process, and whether `buildkitd` answers the daemon sees by itself";
const SOCKET: &str = "with a second address, the first one has to be named";
const CHOSEN: &str = "the platforms of a node choose machines; nobody wants emulation by accident (docker/buildx#342)";
const LABELS: &str = "objects are found, and told from those of others, by the usual labels";
const SELECTOR: &str = "a selector can't be changed, labels can: they are none of it";
const STATE: &str = "overlayfs does not nest in a container's layer, and a cache in it counts against that";
const TOKEN: &str = "RUN steps are other people's code: no token of the cluster where none was asked for";
const SECRET: &str = "keys belong into a Secret; there is one for all files, whatever their directory";
const ROOTLESS_CONFIG: &str = "rootless buildkitd looks below its home (docker/buildx#4080)";
const LOST: &str = "buildx loses the mounts of the configuration when there is a volume";
const APPARMOR: &str = "the annotation is deprecated: the field says the same (docker/buildx#4083)";
const ROLLOUT: &str = "an old pod goes only when its successor is ready";
const ROOTLESS_FALSE: &str = "buildx looks at whether the key is given, not at its value";
const DISK: &str = "buildx writes the request into the limits";
const HAND_OVER: &str = "a fresh volume belongs to root, and user 1000 has to write to it";

const ROOTLESS: &str =
    "rootless rootless-image flags-rootless qemu-rootless memory-rootless volume-rootless config-rootless";
const VOLUMES: &str = "volume volume-* config-volume";
const CONFIGURED: &str = "config config-*";

pub(super) static DIFFERENCES: &[Difference] = &[
    differs("metadata.annotations.buildfleet.internal/*", Absent, ANY, NOTES),
    differs("metadata.labels.app.kubernetes.io/*", Absent, ANY, LABELS),
    differs("pod-metadata.labels.app.kubernetes.io/*", Absent, ANY, LABELS),
    of(VOLUMES, "claim.metadata.labels.*", Absent, ANY, LABELS),
    of("label labels decorated", "spec.selector.matchLabels.*", ANY, Absent, SELECTOR),
    differs("spec.revisionHistoryLimit", Given("10"), Given("2"), "nobody rolls a builder's options back"),
    differs("spec.strategy.rollingUpdate.maxSurge", Given("25%"), Given("1"), ROLLOUT),
    differs("spec.strategy.rollingUpdate.maxUnavailable", Given("25%"), Given("0"), ROLLOUT),
    differs("objects.Secret-tls", Absent, ANY, TLS),
    differs("files./certs/*.pem", Absent, ANY, TLS),
    differs("pod-metadata.annotations.buildfleet.internal/certificates-not-after", Absent, ANY, TLS),
    differs("pod.volumes.certs.*", Absent, ANY, TLS),
    differs("buildkitd.volumeMounts./certs.*", Absent, ANY, TLS),
    differs("buildkitd.ports.buildkitd-mtls.*", Absent, ANY, TLS),
    differs("buildkitd.args.--tls*", Absent, ANY, TLS),
    differs("buildkitd.args./certs/*.pem", Absent, ANY, TLS),
    differs("buildkitd.args.tcp://0.0.0.0:1234", Absent, ANY, TLS),
    differs("buildkitd.args.--addr", Absent, ANY, SOCKET),
    differs("buildkitd.args.unix://*/buildkit/buildkitd.sock", Absent, ANY, SOCKET),
    differs("pod.terminationGracePeriodSeconds", Given("30"), Given("3630"), DRAIN),
    differs("buildkitd.lifecycle.preStop.exec.command.*", Absent, ANY, DRAIN),
    differs("buildkitd.livenessProbe.*", ANY, Absent, LIVENESS),
    differs("buildkitd.readinessProbe.exec.command.*", ANY, Absent, PROBE),
    differs("buildkitd.readinessProbe.tcpSocket.port", Absent, Given("1234"), PROBE),
    differs("buildkitd.readinessProbe.failureThreshold", Given("3"), Given("30"), READINESS),
    differs("buildkitd.readinessProbe.initialDelaySeconds", Given("5"), Given("3"), READINESS),
    differs("buildkitd.readinessProbe.periodSeconds", Given("30"), Given("2"), READINESS),
    differs("buildkitd.readinessProbe.timeoutSeconds", Given("60"), Given("1"), READINESS),
    differs("pod.automountServiceAccountToken", Absent, Given("false"), TOKEN),
    differs(
        "pod.enableServiceLinks",
        Absent,
        Given("false"),
        "builds see no environment variables of the cluster's services",
    ),
    differs("buildkitd.volumeMounts./var/lib/buildkit.*", Absent, ANY, STATE),
    differs("pod.volumes.buildkitd.*", Absent, ANY, STATE),
    of(
        "memory",
        "pod.volumes.buildkit-memory.*",
        ANY,
        Absent,
        "one volume of the state, whatever it is on, has one name",
    ),
    of(
        "memory",
        "buildkitd.volumeMounts./var/lib/buildkit.name",
        ANY,
        ANY,
        "one volume of the state, whatever it is on, has one name",
    ),
    of("platform platforms", "pod.affinity.nodeAffinity.*kubernetes.io/arch*", Absent, ANY, CHOSEN),
    of("disk-request", "buildkitd.resources.limits.ephemeral-storage", Given("1Gi"), Absent, DISK),
    of("disk-request disk", "buildkitd.resources.requests.ephemeral-storage", Absent, Given("1Gi"), DISK),
    of(
        "rootless-false",
        "buildkitd.image",
        Given("*-rootless"),
        Given("moby/buildkit:buildx-stable-1"),
        ROOTLESS_FALSE,
    ),
    of(CONFIGURED, "objects.ConfigMap-config*", ANY, Absent, SECRET),
    of(CONFIGURED, "objects.Secret-config", Absent, ANY, SECRET),
    of(CONFIGURED, "pod.volumes.config.configMap.*", ANY, Absent, SECRET),
    of(CONFIGURED, "pod.volumes.config-1.*", ANY, Absent, SECRET),
    of(CONFIGURED, "pod.volumes.config.secret.*", Absent, ANY, SECRET),
    of(CONFIGURED, "buildkitd.volumeMounts./etc/buildkit/certs/r.example_5000.*", ANY, Absent, SECRET),
    of(CONFIGURED, "buildkitd.volumeMounts./etc/buildkit.readOnly", Absent, Given("true"), SECRET),
    of(
        CONFIGURED,
        "pod-metadata.annotations.buildfleet.internal/config",
        Absent,
        ANY,
        "another content replaces the pods",
    ),
    of("config-rootless", "files./etc/buildkit/*", ANY, Absent, ROOTLESS_CONFIG),
    of("config-rootless", "files./home/user/.config/buildkit/*", Absent, ANY, ROOTLESS_CONFIG),
    of("config-rootless", "buildkitd.volumeMounts./etc/buildkit.*", ANY, Absent, ROOTLESS_CONFIG),
    of("config-rootless", "buildkitd.volumeMounts./home/user/.config/buildkit.*", Absent, ANY, ROOTLESS_CONFIG),
    of("config-volume", "files./etc/buildkit/*", Absent, ANY, LOST),
    of("config-volume", "buildkitd.volumeMounts./etc/buildkit.*", Absent, ANY, LOST),
    of(
        ROOTLESS,
        "pod-metadata.annotations.container.apparmor.security.beta.kubernetes.io/buildkitd",
        ANY,
        Absent,
        APPARMOR,
    ),
    of(
        ROOTLESS,
        "metadata.annotations.container.apparmor.security.beta.kubernetes.io/buildkitd",
        ANY,
        Absent,
        APPARMOR,
    ),
    of(ROOTLESS, "buildkitd.securityContext.appArmorProfile.type", Absent, Given("Unconfined"), APPARMOR),
    of(
        ROOTLESS,
        "buildkitd.securityContext.runAs*",
        Absent,
        Given("1000"),
        "a user of a custom image may be another one",
    ),
    of("volume-rootless", "pod.volumes.buildkitd.name", ANY, Absent, "an emptyDir that the claim of its name hides"),
    of("volume-rootless", "pod.initContainers.state.*", Absent, ANY, HAND_OVER),
];
