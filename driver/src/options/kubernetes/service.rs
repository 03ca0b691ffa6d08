//! How pods serve builds.

use super::super::table::{Entry, OptionKey, Read};
use super::super::value;
use super::KubernetesOptions;

pub(super) static KEYS: [Entry<KubernetesOptions>; 7] = [
    Entry {
        key: OptionKey {
            name: "loadbalance",
            accepts: value::LOADBALANCE,
            default: "sticky",
            doc: "How a build's pod is chosen. sticky sends the same project to the same ready pod, so that its cache is warm; \
                  sticky-bounded does so while that pod has at most 1.25 times its share of the running builds; least-loaded takes \
                  the pod with the fewest. See [placement.md](placement.md).",
        },
        read: Read::One(|options, text| value::loadbalance(text).map(|value| options.loadbalance = value)),
    },
    Entry {
        key: OptionKey {
            name: "retry",
            accepts: value::SWITCH,
            default: "on",
            doc: "Whether a build whose pod ends is started again on another pod, when nothing of it was given to the client yet. \
                  off ends it with an error.",
        },
        read: Read::One(|options, text| value::switch(text).map(|value| options.retry = value)),
    },
    Entry {
        key: OptionKey {
            name: "timeout",
            accepts: "a duration longer than 0, as in 90s, 2m30s or 1h",
            default: "120s",
            doc: "How long the start of a pod may take.",
        },
        read: Read::One(|options, text| value::timeout(text).map(|value| options.timeout = value)),
    },
    Entry {
        key: OptionKey {
            name: "drain-timeout",
            accepts: "a duration, as in 30m or 2h, or 0",
            default: "1h",
            doc: "How long a pod that is told to go (stop, fewer replicas, rollout, eviction, deletion) waits for the builds that \
                  run in it. A pod without builds goes at once.",
        },
        read: Read::One(|options, text| value::drain_timeout(text).map(|value| options.drain_timeout = value)),
    },
    Entry {
        key: OptionKey {
            name: "ttl",
            accepts: "a duration of at least 30m, as in 24h, or never",
            default: "what `gc` is told",
            doc: "After how long without a build of anybody `buildfleet gc` may remove the node with all that it has in the cluster. \
                  never keeps it whatever `gc` is told. See [sharing.md](sharing.md).",
        },
        read: Read::One(|options, text| value::ttl(text).map(|value| options.ttl = Some(value))),
    },
    Entry {
        key: OptionKey {
            name: "transport",
            accepts: "auto, exec, port-forward or pod-ip",
            default: "auto",
            doc: "How pods are reached. auto takes the fastest that answers; with exec, `buildkitd` does not listen on TCP at all.",
        },
        read: Read::One(|options, text| value::transport(text).map(|value| options.transport = value)),
    },
    Entry {
        key: OptionKey {
            name: "default-load",
            accepts: value::BOOLEAN,
            default: "false",
            doc: "Whether `docker buildx build` without an output loads its image into the local Docker. This is done by buildx, which is told so when the builder is registered with it.",
        },
        read: Read::One(|options, text| value::boolean(text).map(|value| options.default_load = value)),
    },
];
