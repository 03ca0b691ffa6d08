//! The template of a node's pods, the same whatever kind of workload runs them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, ContainerPort, EmptyDirVolumeSource, ExecAction, KeyToPath, PodSpec, PodTemplateSpec,
    Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::builder::Node;
use crate::options::{self, KubernetesOptions, Resources};

use super::{TLS_PORT, affinity, annotations, drain, labels, tls_secret_name};

/// The container that runs `buildkitd`.
pub const CONTAINER: &str = "buildkitd";

const IMAGE: &str = "moby/buildkit:buildx-stable-1";
const ROOTLESS_IMAGE: &str = "moby/buildkit:buildx-stable-1-rootless";
const QEMU_IMAGE: &str = "tonistiigi/binfmt:latest";

/// The user of the rootless image.
const ROOTLESS_USER: i64 = 1000;

const STATE_VOLUME: &str = "buildkitd";
const CERTIFICATES_VOLUME: &str = "certs";
const CERTIFICATES: &str = "/certs";

/// Where `buildkitd` listens for `buildctl` in the same container.
pub fn unix_address(options: &KubernetesOptions) -> &'static str {
    if options.rootless {
        "unix:///run/user/1000/buildkit/buildkitd.sock"
    } else {
        "unix:///run/buildkit/buildkitd.sock"
    }
}

/// The template of a node's pods.
pub(super) fn template(node: &Node, options: &KubernetesOptions) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(node)),
            annotations: annotations(node),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            init_containers: options.qemu_install.then(|| vec![qemu(options)]),
            containers: vec![buildkitd(node, options)],
            volumes: Some(volumes(node, options)),
            affinity: affinity::to_machines(node, options),
            node_selector: (!options.nodeselector.is_empty()).then(|| options.nodeselector.clone()),
            tolerations: (!options.tolerations.is_empty())
                .then(|| options.tolerations.iter().map(toleration).collect()),
            termination_grace_period_seconds: Some(drain::grace_seconds(options)),
            // RUN steps are other people's code: nothing of the cluster is put into the pod that it does not need.
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            ..PodSpec::default()
        }),
    }
}

fn buildkitd(node: &Node, options: &KubernetesOptions) -> Container {
    let default_image = if options.rootless { ROOTLESS_IMAGE } else { IMAGE };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(options.image.clone().unwrap_or_else(|| default_image.to_owned())),
        args: Some(arguments(node, options)),
        ports: options.transport.needs_tls().then(|| {
            vec![ContainerPort {
                name: Some("buildkitd-mtls".to_owned()),
                container_port: i32::from(TLS_PORT),
                ..ContainerPort::default()
            }]
        }),
        resources: resources(options),
        security_context: Some(security(options)),
        volume_mounts: Some(mounts(options)),
        readiness_probe: Some(readiness(options)),
        lifecycle: drain::wait_for_builds(options),
        ..Container::default()
    }
}

/// The user's flags, then ours: where both say the same, `buildkitd` takes the last.
fn arguments(node: &Node, options: &KubernetesOptions) -> Vec<String> {
    let mut arguments = node.buildkitd_flags.clone();
    // As buildx does it: the pod's network is nobody else's, so `RUN --network=host` is allowed unless the user decides.
    if !arguments.iter().any(|argument| is_flag(argument, "allow-insecure-entitlement")) {
        arguments.push("--allow-insecure-entitlement=network.host".to_owned());
    }
    if options.rootless {
        // A pod has no unmasked /proc, which a PID namespace of its own would need for every RUN step.
        arguments.push("--oci-worker-no-process-sandbox".to_owned());
    }
    // The first `--addr` replaces the default address, so the unix socket is always named.
    arguments.extend(["--addr".to_owned(), unix_address(options).to_owned()]);
    if options.transport.needs_tls() {
        arguments.extend(["--addr".to_owned(), format!("tcp://0.0.0.0:{TLS_PORT}")]);
        for (flag, file) in [("--tlscacert", "ca.pem"), ("--tlscert", "cert.pem"), ("--tlskey", "key.pem")] {
            arguments.extend([flag.to_owned(), format!("{CERTIFICATES}/{file}")]);
        }
    }
    arguments
}

/// Whether `argument` is the flag `name`, alone or with a value.
fn is_flag(argument: &str, name: &str) -> bool {
    argument
        .strip_prefix("--")
        .or_else(|| argument.strip_prefix('-'))
        .is_some_and(|flag| flag.split_once('=').map_or(flag, |(flag, _)| flag) == name)
}

/// Readiness for those who look at the pod by Kubernetes' means (`kubectl rollout`, disruption budgets): the daemon asks
/// by itself and does not wait for it.
///
/// There is no liveness and no startup probe. Both kill a container that answers late, and a builder answers late when it
/// is busy (garden-io/garden#5779); when `buildkitd` dies, the container ends without being asked. Each probe starts a
/// process in the pod, some 50 ms: every five seconds that is one percent of a core. The first probe mostly comes too
/// early, so a longer period would leave a pod that works unready for as long. Twelve failures in a row, a minute, make a
/// builder unready, and even that only in the eyes of Kubernetes.
fn readiness(options: &KubernetesOptions) -> Probe {
    let command = ["buildctl", "--addr", unix_address(options), "debug", "workers"];
    Probe {
        exec: Some(ExecAction { command: Some(command.map(str::to_owned).to_vec()) }),
        initial_delay_seconds: Some(1),
        period_seconds: Some(5),
        timeout_seconds: Some(15),
        failure_threshold: Some(12),
        success_threshold: Some(1),
        ..Probe::default()
    }
}

/// Either all rights, or those of one user without the two profiles that forbid user namespaces and mounts in them.
fn security(options: &KubernetesOptions) -> SecurityContext {
    if !options.rootless {
        return SecurityContext { privileged: Some(true), ..SecurityContext::default() };
    }
    SecurityContext {
        run_as_user: Some(ROOTLESS_USER),
        run_as_group: Some(ROOTLESS_USER),
        seccomp_profile: Some(SeccompProfile { type_: "Unconfined".to_owned(), localhost_profile: None }),
        app_armor_profile: Some(AppArmorProfile { type_: "Unconfined".to_owned(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}

/// Registers QEMU on the machine. It has to be root with all rights there, also before a rootless `buildkitd`.
fn qemu(options: &KubernetesOptions) -> Container {
    Container {
        name: "qemu".to_owned(),
        image: Some(options.qemu_image.clone().unwrap_or_else(|| QEMU_IMAGE.to_owned())),
        args: Some(vec!["--install".to_owned(), "all".to_owned()]),
        security_context: Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
        ..Container::default()
    }
}

/// Where `buildkitd` keeps its state: on an emptyDir, because overlayfs does not nest in a container's own layer, and
/// because the image's VOLUME is mounted nosuid and nodev on some machines (moby/buildkit#879).
fn state_directory(options: &KubernetesOptions) -> &'static str {
    if options.rootless { "/home/user/.local/share/buildkit" } else { "/var/lib/buildkit" }
}

fn mounts(options: &KubernetesOptions) -> Vec<VolumeMount> {
    let mut mounts = vec![VolumeMount {
        name: STATE_VOLUME.to_owned(),
        mount_path: state_directory(options).to_owned(),
        ..VolumeMount::default()
    }];
    if options.transport.needs_tls() {
        mounts.push(VolumeMount {
            name: CERTIFICATES_VOLUME.to_owned(),
            mount_path: CERTIFICATES.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    mounts
}

fn volumes(node: &Node, options: &KubernetesOptions) -> Vec<Volume> {
    let mut volumes = vec![Volume {
        name: STATE_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }];
    if options.transport.needs_tls() {
        // The Secret holds the daemons' certificate, too: that one is not for the pods.
        // User 1000 has to read the files by their mode for all: an fsGroup would give them to its group, but also puts the
        // setgid bit on the emptyDir, from where every directory that a RUN step makes takes it into the image.
        let file = |name: &str| KeyToPath { key: name.to_owned(), path: name.to_owned(), mode: None };
        volumes.push(Volume {
            name: CERTIFICATES_VOLUME.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(tls_secret_name(node)),
                items: Some(["ca.pem", "cert.pem", "key.pem"].map(file).to_vec()),
                default_mode: Some(if options.rootless { 0o444 } else { 0o400 }),
                optional: None,
            }),
            ..Volume::default()
        });
    }
    volumes
}

fn resources(options: &KubernetesOptions) -> Option<ResourceRequirements> {
    let (requests, limits) = (amounts(&options.requests), amounts(&options.limits));
    (requests.is_some() || limits.is_some()).then_some(ResourceRequirements { requests, limits, claims: None })
}

fn amounts(resources: &Resources) -> Option<BTreeMap<String, Quantity>> {
    let amounts: BTreeMap<String, Quantity> = [("cpu", &resources.cpu), ("memory", &resources.memory)]
        .into_iter()
        .filter_map(|(name, amount)| Some((name.to_owned(), Quantity(amount.as_ref()?.to_string()))))
        .collect();
    (!amounts.is_empty()).then_some(amounts)
}

fn toleration(toleration: &options::Toleration) -> Toleration {
    Toleration {
        key: toleration.key.clone(),
        operator: toleration.operator.clone(),
        value: toleration.value.clone(),
        effect: toleration.effect.clone(),
        toleration_seconds: toleration.toleration_seconds,
    }
}
