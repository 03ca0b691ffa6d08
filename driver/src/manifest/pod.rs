//! The template of a node's pods, the same whatever kind of workload runs them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, ContainerPort, EnvVar, ExecAction, KeyToPath, LocalObjectReference, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, TCPSocketAction,
    Toleration, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::builder::{BuildkitdConfig, Node};
use crate::options::{self, KubernetesOptions, Resources};

use super::{
    TLS_PORT, affinity, app_label, config, drain, state, tls_secret_name, workload_annotations, workload_labels,
};

/// The container that runs `buildkitd`.
pub const CONTAINER: &str = "buildkitd";

const IMAGE: &str = "moby/buildkit:buildx-stable-1";
const ROOTLESS_IMAGE: &str = "moby/buildkit:buildx-stable-1-rootless";
const QEMU_IMAGE: &str = "tonistiigi/binfmt:latest";

/// The user of the rootless image.
const ROOTLESS_USER: i64 = 1000;

pub(super) const CERTIFICATES_VOLUME: &str = "certs";
const CERTIFICATES: &str = "/certs";

/// On the pods: which configuration they started with.
pub(super) const CONFIG_ANNOTATION: &str = "buildfleet.internal/config";

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
    let mut annotations = workload_annotations(node, options);
    let configured = config::fingerprint(node, options);
    annotations.extend(configured.map(|fingerprint| (CONFIG_ANNOTATION.to_owned(), fingerprint)));
    let init: Vec<Container> = options
        .qemu_install
        .then(|| qemu(options))
        .into_iter()
        .chain(state::hand_over(options, image(options), ROOTLESS_USER))
        .collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(workload_labels(node, options)),
            annotations: some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            init_containers: (!init.is_empty()).then_some(init),
            containers: vec![buildkitd(node, options)],
            volumes: Some(volumes(node, options)).filter(|volumes| !volumes.is_empty()),
            affinity: affinity::of_pods(node, options),
            topology_spread_constraints: (!options.topology_spread.is_empty())
                .then(|| options.topology_spread.iter().map(|constraint| about_pods_of(node, constraint)).collect()),
            node_selector: some(options.nodeselector.clone()),
            tolerations: (!options.tolerations.is_empty())
                .then(|| options.tolerations.iter().map(toleration).collect()),
            scheduler_name: options.schedulername.clone(),
            priority_class_name: options.priorityclass.clone(),
            runtime_class_name: options.runtimeclass.clone(),
            image_pull_secrets: (!options.imagepullsecrets.is_empty()).then(|| {
                options.imagepullsecrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
            }),
            termination_grace_period_seconds: Some(drain::grace_seconds(options)),
            host_users: (!options.host_users).then_some(false),
            service_account_name: options.serviceaccount.clone(),
            // RUN steps are other people's code: nothing of the cluster is put into the pod that nobody asked for.
            automount_service_account_token: options.serviceaccount.is_none().then_some(false),
            enable_service_links: Some(false),
            ..PodSpec::default()
        }),
    }
}

/// The image of `buildkitd`.
fn image(options: &KubernetesOptions) -> &str {
    let default = if options.rootless { ROOTLESS_IMAGE } else { IMAGE };
    options.image.as_deref().unwrap_or(default)
}

/// A constraint without a selector would be about no pods at all.
fn about_pods_of(node: &Node, constraint: &TopologySpreadConstraint) -> TopologySpreadConstraint {
    let pods = LabelSelector { match_labels: Some(app_label(node)), match_expressions: None };
    let selector = constraint.label_selector.clone().unwrap_or(pods);
    TopologySpreadConstraint { label_selector: Some(selector), ..constraint.clone() }
}

fn some<K, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}

fn buildkitd(node: &Node, options: &KubernetesOptions) -> Container {
    let variable = |(name, value): (&String, &String)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        ..EnvVar::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image(options).to_owned()),
        args: Some(arguments(node, options)),
        env: (!options.env.is_empty()).then(|| options.env.iter().map(variable).collect()),
        ports: options.transport.needs_tls().then(|| {
            vec![ContainerPort {
                name: Some("buildkitd-mtls".to_owned()),
                container_port: i32::from(TLS_PORT),
                ..ContainerPort::default()
            }]
        }),
        resources: resources(options),
        security_context: Some(security(options)),
        volume_mounts: Some(mounts(node, options)),
        readiness_probe: Some(readiness(options)),
        lifecycle: drain::wait_for_builds(options),
        ..Container::default()
    }
}

/// The user's flags, then ours: where both say the same, `buildkitd` takes the last.
pub(super) fn flags(node: &Node, options: &KubernetesOptions) -> Vec<String> {
    let mut arguments = node.buildkitd_flags.clone();
    // As buildx does it: the pod's network is nobody else's, so `RUN --network=host` is allowed unless the user decides.
    let configured = node.config.as_ref().is_some_and(BuildkitdConfig::allows_network_host);
    if !configured && !arguments.iter().any(|argument| is_flag(argument, "allow-insecure-entitlement")) {
        arguments.push("--allow-insecure-entitlement=network.host".to_owned());
    }
    if options.rootless {
        // A pod has no unmasked /proc, which a PID namespace of its own would need for every RUN step.
        arguments.push("--oci-worker-no-process-sandbox".to_owned());
    }
    arguments
}

fn arguments(node: &Node, options: &KubernetesOptions) -> Vec<String> {
    let mut arguments = flags(node, options);
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
/// by itself and does not wait for it. A minute of failures in a row makes a builder unready, and even that only in the
/// eyes of Kubernetes.
///
/// There is no liveness and no startup probe. Both kill a container that answers late, and a builder answers late when it
/// is busy (garden-io/garden#5779); when `buildkitd` dies, the container ends without being asked.
fn readiness(options: &KubernetesOptions) -> Probe {
    // A connection that ends without a byte is nothing to `buildkitd`, so the kubelet may look often. It listens before it is
    // done with its start (moby/buildkit#4618), which takes less than a second with an empty cache.
    if options.transport.needs_tls() {
        return Probe {
            tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(i32::from(TLS_PORT)), host: None }),
            // Later than the daemon mostly has its connection: a rollout takes the old pod when Kubernetes has the new one.
            initial_delay_seconds: Some(3),
            period_seconds: Some(2),
            failure_threshold: Some(30),
            ..Probe::default()
        };
    }
    // Each starts a process in the pod, some 75 ms: every five seconds that is more than one percent of a core. The first
    // mostly comes too early, so a longer period would leave a pod that works unready for as long.
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

fn mounts(node: &Node, options: &KubernetesOptions) -> Vec<VolumeMount> {
    let certificates = options.transport.needs_tls().then(|| VolumeMount {
        name: CERTIFICATES_VOLUME.to_owned(),
        mount_path: CERTIFICATES.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    [Some(state::mount(options)), certificates, config::mount(node, options)].into_iter().flatten().collect()
}

fn volumes(node: &Node, options: &KubernetesOptions) -> Vec<Volume> {
    // The Secret holds the daemons' certificate, too: that one is not for the pods.
    let file = |name: &str| KeyToPath { key: name.to_owned(), path: name.to_owned(), mode: None };
    let certificates = options.transport.needs_tls().then(|| Volume {
        name: CERTIFICATES_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(tls_secret_name(node)),
            items: Some(["ca.pem", "cert.pem", "key.pem"].map(file).to_vec()),
            default_mode: Some(config::file_mode(options)),
            optional: None,
        }),
        ..Volume::default()
    });
    [state::volume(options), certificates, config::volume(node, options)].into_iter().flatten().collect()
}

fn resources(options: &KubernetesOptions) -> Option<ResourceRequirements> {
    let (requests, limits) = (amounts(&options.requests), amounts(&options.limits));
    (requests.is_some() || limits.is_some()).then_some(ResourceRequirements { requests, limits, claims: None })
}

fn amounts(resources: &Resources) -> Option<BTreeMap<String, Quantity>> {
    let amounts =
        [("cpu", &resources.cpu), ("memory", &resources.memory), ("ephemeral-storage", &resources.ephemeral_storage)];
    let given = |(name, amount): (&str, &Option<options::Quantity>)| {
        Some((name.to_owned(), Quantity(amount.as_ref()?.to_string())))
    };
    some(amounts.into_iter().filter_map(given).collect())
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
