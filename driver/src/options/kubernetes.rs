//! Options of the `kubernetes` driver.

use std::collections::BTreeMap;
use std::time::Duration;

use super::table::{Entry, OptionKey};
use super::value::{self, ValueError};
use super::{LoadBalance, OptionError, Quantity, Toleration, TransportChoice};

/// Options of the `kubernetes` driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesOptions {
    pub(crate) namespace: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) replicas: u32,
    pub(crate) requests: Resources,
    pub(crate) limits: Resources,
    pub(crate) nodeselector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) rootless: bool,
    pub(crate) qemu_install: bool,
    pub(crate) qemu_image: Option<String>,
    pub(crate) loadbalance: LoadBalance,
    pub(crate) retry: bool,
    pub(crate) timeout: Duration,
    /// How long a pod that is told to go waits for its builds.
    pub(crate) drain_timeout: Duration,
    pub(crate) transport: TransportChoice,
}

/// CPU and memory, for requests or for limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub(crate) cpu: Option<Quantity>,
    pub(crate) memory: Option<Quantity>,
}

impl Default for KubernetesOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            image: None,
            replicas: 1,
            requests: Resources::default(),
            limits: Resources::default(),
            nodeselector: BTreeMap::new(),
            tolerations: Vec::new(),
            rootless: false,
            qemu_install: false,
            qemu_image: None,
            loadbalance: LoadBalance::default(),
            retry: true,
            timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(3600),
            transport: TransportChoice::default(),
        }
    }
}

const CPU: &str = "a Kubernetes quantity that is not negative, as in 500m, 2 or 1.5";
const MEMORY: &str = "a Kubernetes quantity that is not negative, as in 512Mi, 10Gi or 2G";

pub(super) static KEYS: [Entry<KubernetesOptions>; 17] = [
    Entry {
        key: OptionKey {
            name: "namespace",
            accepts: "a DNS label of at most 63 characters, as in builds or team-a",
            default: "the namespace of the kubeconfig's context",
            doc: "Where the pods and everything else that belongs to the node is made.",
        },
        read: |options, text| value::namespace(text).map(|value| options.namespace = value),
    },
    Entry {
        key: OptionKey {
            name: "image",
            accepts: "the name of an image, without white space; an empty one means the default",
            default: "`moby/buildkit:buildx-stable-1`, with `rootless=true` `moby/buildkit:buildx-stable-1-rootless`",
            doc: "The image that `buildkitd` and `buildctl` come from. With `rootless=true` it has to be a rootless one.",
        },
        read: |options, text| value::image(text).map(|value| options.image = value),
    },
    Entry {
        key: OptionKey {
            name: "replicas",
            accepts: "a whole number from 1 to 1000",
            default: "1",
            doc: "How many equal pods the node has. A build waits for one of them, not for all.",
        },
        read: |options, text| value::replicas(text).map(|value| options.replicas = value),
    },
    Entry {
        key: OptionKey {
            name: "requests.cpu",
            accepts: CPU,
            default: "none",
            doc: "CPU that the machine has to have free for a pod. At most `limits.cpu`.",
        },
        read: |options, text| value::cpu(text).map(|value| options.requests.cpu = value),
    },
    Entry {
        key: OptionKey {
            name: "requests.memory",
            accepts: MEMORY,
            default: "none",
            doc: "Memory that the machine has to have free for a pod. At most `limits.memory`.",
        },
        read: |options, text| value::bytes(text).map(|value| options.requests.memory = value),
    },
    Entry {
        key: OptionKey {
            name: "limits.cpu",
            accepts: CPU,
            default: "none",
            doc: "CPU that a pod, with all the builds in it, may use at most.",
        },
        read: |options, text| value::cpu(text).map(|value| options.limits.cpu = value),
    },
    Entry {
        key: OptionKey {
            name: "limits.memory",
            accepts: MEMORY,
            default: "none",
            doc: "Memory that a pod, with all the builds in it, may use at most; beyond it the pod is killed (OOMKilled).",
        },
        read: |options, text| value::bytes(text).map(|value| options.limits.memory = value),
    },
    Entry {
        key: OptionKey {
            name: "nodeselector",
            accepts: "labels as key=value with commas between them, as in kubernetes.io/arch=arm64,disk=ssd",
            default: "none",
            doc: "Labels that a machine has to have. If `kubernetes.io/arch` is among them, `--platform` no longer chooses machines.",
        },
        read: |options, text| value::labels(text).map(|value| options.nodeselector = value),
    },
    Entry {
        key: OptionKey {
            name: "tolerations",
            accepts: "entries with `;` between them, each of key=, operator=Exists or Equal, value=, effect=NoSchedule, \
                      PreferNoSchedule or NoExecute, and tolerationSeconds= with commas between them",
            default: "none",
            doc: "Taints of machines that pods put up with.",
        },
        read: |options, text| {
            Toleration::parse_list(text).map_err(ValueError::inner).map(|value| options.tolerations = value)
        },
    },
    Entry {
        key: OptionKey {
            name: "rootless",
            accepts: "a boolean: true, t, 1, false, f or 0",
            default: "false",
            doc: "Run `buildkitd` as user 1000 by rootlesskit instead of in a privileged container.",
        },
        read: |options, text| value::boolean(text).map(|value| options.rootless = value),
    },
    Entry {
        key: OptionKey {
            name: "qemu.install",
            accepts: "a boolean: true, t, 1, false, f or 0",
            default: "false",
            doc: "Register QEMU on the pod's machine before `buildkitd` starts, by a privileged init container, so that \
                  one node builds for other architectures by emulation.",
        },
        read: |options, text| value::boolean(text).map(|value| options.qemu_install = value),
    },
    Entry {
        key: OptionKey {
            name: "qemu.image",
            accepts: "the name of an image, without white space; an empty one means the default",
            default: "`tonistiigi/binfmt:latest`",
            doc: "The image of that init container.",
        },
        read: |options, text| value::image(text).map(|value| options.qemu_image = value),
    },
    Entry {
        key: OptionKey {
            name: "loadbalance",
            accepts: value::LOADBALANCE,
            default: "sticky",
            doc: "How a build's pod is chosen. sticky sends the same project to the same ready pod, so that its cache is warm; \
                  sticky-bounded does so while that pod has at most 1.25 times its share of the running builds; least-loaded takes \
                  the pod with the fewest. See [placement.md](placement.md).",
        },
        read: |options, text| value::loadbalance(text).map(|value| options.loadbalance = value),
    },
    Entry {
        key: OptionKey {
            name: "retry",
            accepts: value::SWITCH,
            default: "on",
            doc: "Whether a build whose pod ends is started again on another pod, when nothing of it was given to the client yet. \
                  off ends it with an error.",
        },
        read: |options, text| value::switch(text).map(|value| options.retry = value),
    },
    Entry {
        key: OptionKey {
            name: "timeout",
            accepts: "a duration longer than 0, as in 90s, 2m30s or 1h",
            default: "120s",
            doc: "How long the start of a pod may take.",
        },
        read: |options, text| value::timeout(text).map(|value| options.timeout = value),
    },
    Entry {
        key: OptionKey {
            name: "drain-timeout",
            accepts: "a duration, as in 30m or 2h, or 0",
            default: "1h",
            doc: "How long a pod that is told to go (stop, fewer replicas, rollout, eviction, deletion) waits for the builds that \
                  run in it. A pod without builds goes at once.",
        },
        read: |options, text| value::drain_timeout(text).map(|value| options.drain_timeout = value),
    },
    Entry {
        key: OptionKey {
            name: "transport",
            accepts: "auto, exec, port-forward or pod-ip",
            default: "auto",
            doc: "How pods are reached. auto takes the fastest that answers; with exec, `buildkitd` does not listen on TCP at all.",
        },
        read: |options, text| value::transport(text).map(|value| options.transport = value),
    },
];

impl KubernetesOptions {
    /// What is wrong with keys taken together.
    pub(super) fn check(&self, errors: &mut Vec<OptionError>) {
        for (request, limit, what) in
            [(&self.requests.cpu, &self.limits.cpu, "cpu"), (&self.requests.memory, &self.limits.memory, "memory")]
        {
            if let (Some(request), Some(limit)) = (request, limit)
                && request.exceeds(limit)
            {
                errors.push(OptionError {
                    key: format!("requests.{what}"),
                    problem: format!("{request} is more than `limits.{what}`, which is {limit}"),
                });
            }
        }
    }
}
