//! Where pods run, and how much of a machine they take.

use super::super::Toleration;
use super::super::document;
use super::super::pairs;
use super::super::table::{Entry, OptionKey, Read};
use super::super::value::{self, ValueError};
use super::KubernetesOptions;

const CPU: &str = "a Kubernetes quantity that is not negative, as in 500m, 2 or 1.5";

const DOCUMENT: &str = "JSON or YAML as in a manifest, or @FILE";

pub(super) static KEYS: [Entry<KubernetesOptions>; 13] = [
    Entry {
        key: OptionKey {
            name: "requests.cpu",
            accepts: CPU,
            default: "none",
            doc: "CPU that the machine has to have free for a pod. At most `limits.cpu`.",
        },
        read: Read::One(|options, text| value::cpu(text).map(|value| options.requests.cpu = value)),
    },
    Entry {
        key: OptionKey {
            name: "requests.memory",
            accepts: value::BYTES,
            default: "none",
            doc: "Memory that the machine has to have free for a pod. At most `limits.memory`.",
        },
        read: Read::One(|options, text| value::bytes(text).map(|value| options.requests.memory = value)),
    },
    Entry {
        key: OptionKey {
            name: "requests.ephemeral-storage",
            accepts: value::BYTES,
            default: "none",
            doc: "Room on the machine's disk that has to be free for a pod: its logs, and its state if this is neither on a volume of its own nor in memory. At most `limits.ephemeral-storage`.",
        },
        read: Read::One(|options, text| value::bytes(text).map(|value| options.requests.ephemeral_storage = value)),
    },
    Entry {
        key: OptionKey {
            name: "limits.cpu",
            accepts: CPU,
            default: "none",
            doc: "CPU that a pod, with all the builds in it, may use at most.",
        },
        read: Read::One(|options, text| value::cpu(text).map(|value| options.limits.cpu = value)),
    },
    Entry {
        key: OptionKey {
            name: "limits.memory",
            accepts: value::BYTES,
            default: "none",
            doc: "Memory that a pod, with all the builds in it, may use at most; beyond it the pod is killed (OOMKilled).",
        },
        read: Read::One(|options, text| value::bytes(text).map(|value| options.limits.memory = value)),
    },
    Entry {
        key: OptionKey {
            name: "limits.ephemeral-storage",
            accepts: value::BYTES,
            default: "none",
            doc: "Room on the machine's disk that a pod may use at most; beyond it the pod is evicted.",
        },
        read: Read::One(|options, text| value::bytes(text).map(|value| options.limits.ephemeral_storage = value)),
    },
    Entry {
        key: OptionKey {
            name: "nodeselector",
            accepts: "labels as key=value with commas between them, as in kubernetes.io/arch=arm64,disk=ssd",
            default: "none",
            doc: "Labels that a machine has to have. If `kubernetes.io/arch` is among them, `--platform` no longer chooses machines.",
        },
        read: Read::One(|options, text| pairs::selector(text).map(|value| options.nodeselector = value)),
    },
    Entry {
        key: OptionKey {
            name: "tolerations",
            accepts: "entries with `;` between them, each of key=, operator=Exists or Equal, value=, effect=NoSchedule, \
                      PreferNoSchedule or NoExecute, and tolerationSeconds= with commas between them",
            default: "none",
            doc: "Taints of machines that pods put up with.",
        },
        read: Read::One(|options, text| {
            Toleration::parse_list(text).map_err(ValueError::inner).map(|value| options.tolerations = value)
        }),
    },
    Entry {
        key: OptionKey {
            name: "affinity",
            accepts: DOCUMENT,
            default: "none",
            doc: "The `affinity` of the pods, as in a manifest. The machines that `--platform` chooses are added to it, unless it speaks of `kubernetes.io/arch`.",
        },
        read: Read::One(|options, text| document::affinity(text).map(|value| options.affinity = Some(value))),
    },
    Entry {
        key: OptionKey {
            name: "topologyspread",
            accepts: DOCUMENT,
            default: "none",
            doc: "One constraint of `topologySpreadConstraints`, or a list of them. Without a labelSelector, one is about the node's own pods.",
        },
        read: Read::One(|options, text| document::topology_spread(text).map(|value| options.topology_spread = value)),
    },
    Entry {
        key: OptionKey {
            name: "schedulername",
            accepts: value::OBJECT_OR_NONE,
            default: "the cluster's default scheduler",
            doc: "Who puts the pods on machines.",
        },
        read: Read::One(|options, text| value::object_or_none(text).map(|value| options.schedulername = value)),
    },
    Entry {
        key: OptionKey {
            name: "priorityclass",
            accepts: value::OBJECT,
            default: "none",
            doc: "The PriorityClass of the pods: which ones wait, or are evicted, when there is no room for all.",
        },
        read: Read::One(|options, text| value::object(text).map(|value| options.priorityclass = value)),
    },
    Entry {
        key: OptionKey {
            name: "runtimeclass",
            accepts: value::OBJECT,
            default: "none",
            doc: "The RuntimeClass of the pods, as in kata.",
        },
        read: Read::One(|options, text| value::object(text).map(|value| options.runtimeclass = value)),
    },
];
