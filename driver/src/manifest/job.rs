//! A build as a Job: the pod of a builder, with a build in it instead of a service.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, KeyToPath, PodSpec, PodTemplateSpec, Secret, SecretVolumeSource, SecurityContext,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::builder::Node;
use crate::options::{Claim, KubernetesOptions, TransportChoice};

use super::{config, patch, pod};

mod context;
#[cfg(test)]
mod tests;

pub use context::{CONTEXT_CONTAINER, CONTEXT_DIRECTORY, receive_context};

/// Finds the Jobs that are builds, and their pods.
pub const JOB_SELECTOR: &str = "app.kubernetes.io/component=build-job,app.kubernetes.io/managed-by=buildfleet";

/// On a Job: what it builds, for lists.
pub const TITLE_ANNOTATION: &str = "buildfleet.internal/title";

/// The container of a build whose `buildkitd` is elsewhere.
pub const CLIENT_CONTAINER: &str = "buildctl";

/// The user of containers that need no rights at all, and one that every machine has room for.
const USER: i64 = 1000;

/// How often `buildctl-daemonless.sh` asks whether `buildkitd` answers: with its growing pauses 43 s at least. The 10 times of
/// its default are less than 3 s, which a busy machine does not keep.
const TRIES: u32 = 60;

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The values of secrets by the names of their files.
pub const SECRETS_DIRECTORY: &str = "/run/buildfleet/secrets";
const REGISTRY: &str = "/run/buildfleet/registry";
const CERTIFICATES: &str = "/certs";

/// What is built, and how the Job behaves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobBuild {
    /// Those of `buildctl build`, but for `--progress`.
    pub arguments: Vec<String>,
    /// A context comes from outside, and is waited for: see [`receive_context`].
    pub uploads_context: bool,
    /// Values by their ids, which are names of files in [`SECRETS_DIRECTORY`].
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub registry: RegistrySecret,
    pub place: BuildPlace,
    /// Seconds that the Job stays when it is over; `None`: until it is deleted.
    pub ttl: Option<u32>,
    /// Seconds after which it fails.
    pub timeout: Option<u32>,
    pub retries: u32,
    /// What it builds, for lists.
    pub title: Option<String>,
}

/// Where the credentials for registries are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RegistrySecret {
    #[default]
    None,
    /// In a Secret that is there, in this key of it.
    Named { name: String, key: String },
    /// In a Secret that goes with the Job: a docker `config.json`.
    Own(Vec<u8>),
}

impl RegistrySecret {
    /// The key of Secrets of the type `kubernetes.io/dockerconfigjson`.
    pub const KEY: &str = ".dockerconfigjson";
}

/// Which `buildkitd` builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BuildPlace {
    /// One in the Job's own pod, which ends with the build.
    #[default]
    Daemonless,
    /// One that listens with mTLS.
    Address {
        /// `tcp://host:port`.
        address: String,
        /// The name in its certificate; empty: the address's host.
        server_name: String,
        /// A Secret with these keys: the CA, the client's certificate and its key.
        secret: String,
        keys: [String; 3],
    },
}

/// The Job, and the Secrets that go with it. Nothing in them names its owner, which has no identity yet.
#[derive(Debug, Clone, PartialEq)]
pub struct JobObjects {
    pub job: Job,
    pub secrets: Vec<Secret>,
}

/// The Job of a build in `namespace`. The node gives the name, the platforms, and what `buildkitd` is configured by.
pub fn job(node: &Node, options: &KubernetesOptions, namespace: &str, build: &JobBuild) -> JobObjects {
    let name = node.name.object_name();
    let options = &as_job(options);
    let metadata = |name: String, labels| ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        ..ObjectMeta::default()
    };
    let title = build.title.clone().map(|title| (TITLE_ANNOTATION.to_owned(), title));
    let annotations: BTreeMap<String, String> = options.annotations.clone().into_iter().chain(title).collect();
    let job = Job {
        metadata: ObjectMeta {
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..metadata(name.clone(), all_labels(&name, options))
        },
        spec: Some(JobSpec {
            backoff_limit: Some(i32::try_from(build.retries).unwrap_or(i32::MAX)),
            active_deadline_seconds: build.timeout.map(i64::from),
            ttl_seconds_after_finished: build.ttl.map(|ttl| i32::try_from(ttl).unwrap_or(i32::MAX)),
            template: template(node, options, build),
            ..JobSpec::default()
        }),
        status: None,
    };
    let job = match &options.manifest_patch {
        Some(patch) => patch::merged(job, patch),
        None => job,
    };
    // They are found by their owner; `gc` takes what is labelled as ours and belongs to no builder.
    let of_secret = |of: String| {
        let mut labels = labels(&name);
        labels.remove(MANAGED_BY);
        metadata(of, labels)
    };
    let secret = |suffix: &str, type_: &str, data: BTreeMap<String, ByteString>| Secret {
        metadata: of_secret(format!("{name}-{suffix}")),
        type_: Some(type_.to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let values = build.secrets.iter().map(|(id, value)| (id.clone(), ByteString(value.clone())));
    let registry = match &build.registry {
        RegistrySecret::Own(config) => {
            Some(BTreeMap::from([(RegistrySecret::KEY.to_owned(), ByteString(config.clone()))]))
        }
        RegistrySecret::None | RegistrySecret::Named { .. } => None,
    };
    let config =
        matches!(build.place, BuildPlace::Daemonless).then(|| config::secret(node, options, namespace)).flatten();
    let config = config.map(|secret| Secret { metadata: of_secret(super::config_name(node)), ..secret });
    let secrets = [
        (!build.secrets.is_empty()).then(|| secret("secrets", "Opaque", values.collect())),
        registry.map(|data| secret("registry", "kubernetes.io/dockerconfigjson", data)),
        config,
    ];
    JobObjects { job, secrets: secrets.into_iter().flatten().collect() }
}

/// The options without what concerns a service alone.
fn as_job(options: &KubernetesOptions) -> KubernetesOptions {
    KubernetesOptions { transport: TransportChoice::Exec, claim: Claim::default(), ..options.clone() }
}

/// Without the label that finds the pods of builders: a Job may have a builder's name.
fn labels(name: &str) -> BTreeMap<String, String> {
    [("name", "buildkit"), ("instance", name), ("component", "build-job"), ("managed-by", "buildfleet")]
        .map(|(label, value)| (format!("app.kubernetes.io/{label}"), value.to_owned()))
        .into()
}

/// Lists go by ours.
fn all_labels(name: &str, options: &KubernetesOptions) -> BTreeMap<String, String> {
    options.labels.clone().into_iter().chain(labels(name)).collect()
}

/// The template of a builder's pods with a build in the place of `buildkitd`.
fn template(node: &Node, options: &KubernetesOptions, build: &JobBuild) -> PodTemplateSpec {
    let of_builder = pod::template(node, options);
    let mut metadata = of_builder.metadata.unwrap_or_default();
    metadata.labels = Some(all_labels(&node.name.object_name(), options));
    let mut spec = of_builder.spec.unwrap_or_default();
    let buildkitd = spec.containers.pop().unwrap_or_default();
    let main = match &build.place {
        BuildPlace::Daemonless => daemonless(node, options, build, buildkitd),
        BuildPlace::Address { .. } => {
            // Its volumes are those of a `buildkitd`, and so is what prepares a machine for one.
            (spec.volumes, spec.init_containers) = (None, None);
            metadata.annotations = Some(options.annotations.clone()).filter(|annotations| !annotations.is_empty());
            client(build, buildkitd)
        }
    };
    if build.uploads_context {
        spec.init_containers.get_or_insert_default().push(context::container(&main));
        spec.volumes.get_or_insert_default().push(context::volume());
    }
    spec.volumes.get_or_insert_default().extend(volumes(node, options, build));
    spec.volumes = spec.volumes.filter(|volumes| !volumes.is_empty());
    spec.containers.push(with_build(main, build));
    spec.restart_policy = Some("Never".to_owned());
    // There is no service that has to be left in peace.
    spec.termination_grace_period_seconds = None;
    for (constraint, given) in spec.topology_spread_constraints.iter_mut().flatten().zip(&options.topology_spread) {
        let of_jobs = [("app.kubernetes.io/component".to_owned(), "build-job".to_owned())];
        let jobs = LabelSelector { match_labels: Some(of_jobs.into()), match_expressions: None };
        constraint.label_selector = Some(given.label_selector.clone().unwrap_or(jobs));
    }
    PodTemplateSpec { metadata: Some(metadata), spec: Some(PodSpec { ..spec }) }
}

/// A `buildkitd` that lives as long as one build.
fn daemonless(node: &Node, options: &KubernetesOptions, build: &JobBuild, buildkitd: Container) -> Container {
    let mut env = buildkitd.env.unwrap_or_default();
    env.push(variable("BUILDKITD_FLAGS", pod::flags(node, options).join(" ")));
    env.push(variable("BUILDCTL_CONNECT_RETRIES_MAX", TRIES.to_string()));
    Container {
        command: Some(vec!["buildctl-daemonless.sh".to_owned()]),
        args: Some(build_arguments(build)),
        env: Some(env),
        readiness_probe: None,
        lifecycle: None,
        ..buildkitd
    }
}

/// Only the client: it needs no rights on its machine.
fn client(build: &JobBuild, buildkitd: Container) -> Container {
    let mut arguments = Vec::new();
    if let BuildPlace::Address { address, server_name, .. } = &build.place {
        arguments.extend(["--addr".to_owned(), address.clone()]);
        if !server_name.is_empty() {
            arguments.extend(["--tlsservername".to_owned(), server_name.clone()]);
        }
        for (flag, file) in [("--tlscacert", "ca.pem"), ("--tlscert", "cert.pem"), ("--tlskey", "key.pem")] {
            arguments.extend([flag.to_owned(), format!("{CERTIFICATES}/{file}")]);
        }
    }
    arguments.extend(build_arguments(build));
    Container {
        name: CLIENT_CONTAINER.to_owned(),
        command: Some(vec!["buildctl".to_owned()]),
        args: Some(arguments),
        volume_mounts: None,
        security_context: Some(without_rights()),
        readiness_probe: None,
        lifecycle: None,
        ..buildkitd
    }
}

fn build_arguments(build: &JobBuild) -> Vec<String> {
    // Lines, so that `kubectl logs` reads well.
    let ours = ["build", "--progress=plain"].map(str::to_owned);
    // Kubernetes replaces `$(NAME)` by the container's variable, and takes two dollars for one.
    let theirs = build.arguments.iter().map(|argument| argument.replace('$', "$$"));
    ours.into_iter().chain(theirs).collect()
}

/// What all kinds of build need beside their program.
fn with_build(mut main: Container, build: &JobBuild) -> Container {
    let mounts = main.volume_mounts.get_or_insert_default();
    let read_only = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    if build.uploads_context {
        mounts.push(context::mount());
    }
    if !build.secrets.is_empty() {
        mounts.push(read_only("secrets", SECRETS_DIRECTORY));
    }
    if build.registry != RegistrySecret::None {
        mounts.push(read_only("registry", REGISTRY));
        main.env.get_or_insert_default().push(variable("DOCKER_CONFIG", REGISTRY.to_owned()));
    }
    if build.place != BuildPlace::Daemonless {
        mounts.push(read_only("certs", CERTIFICATES));
    }
    main.volume_mounts = main.volume_mounts.filter(|mounts| !mounts.is_empty());
    main
}

fn volumes(node: &Node, options: &KubernetesOptions, build: &JobBuild) -> Vec<Volume> {
    let name = node.name.object_name();
    // A client runs as the user whom the rootless `buildkitd` has, too.
    let reads_as_user = options.rootless || build.place != BuildPlace::Daemonless;
    let mode = if reads_as_user { 0o444 } else { 0o400 };
    let volume = |volume: &str, secret: String, items: Option<Vec<KeyToPath>>| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource { secret_name: Some(secret), items, default_mode: Some(mode), optional: None }),
        ..Volume::default()
    };
    let item = |key: &str, path: &str| KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None };
    let secrets = (!build.secrets.is_empty()).then(|| volume("secrets", format!("{name}-secrets"), None));
    let registry = match &build.registry {
        RegistrySecret::None => None,
        RegistrySecret::Named { name, key } => Some((name.clone(), key.as_str())),
        RegistrySecret::Own(_) => Some((format!("{name}-registry"), RegistrySecret::KEY)),
    };
    let registry = registry.map(|(secret, key)| volume("registry", secret, Some(vec![item(key, "config.json")])));
    let certificates = match &build.place {
        BuildPlace::Daemonless => None,
        BuildPlace::Address { secret, keys: [ca, cert, key], .. } => {
            let items = vec![item(ca, "ca.pem"), item(cert, "cert.pem"), item(key, "key.pem")];
            Some(volume("certs", secret.clone(), Some(items)))
        }
    };
    [secrets, registry, certificates].into_iter().flatten().collect()
}

fn variable(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() }
}

/// Of one that reads and writes files of its own, and speaks with others.
fn without_rights() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        run_as_non_root: Some(true),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        ..SecurityContext::default()
    }
}
