//! Where `buildkitd` keeps its state.

use super::super::table::{Entry, OptionKey, Read};
use super::super::value;
use super::{AccessMode, KubernetesOptions};

pub(super) static KEYS: [Entry<KubernetesOptions>; 4] = [
    Entry {
        key: OptionKey {
            name: "buildkit-root-volume-memory",
            accepts: value::BYTES,
            default: "a disk of the machine",
            doc: "Keep the state of `buildkitd` in memory, at most so much of it. It counts as memory of the pod. Not with a persistent volume.",
        },
        read: Read::One(|options, text| value::room(text).map(|value| options.memory_volume = value)),
    },
    Entry {
        key: OptionKey {
            name: "persistent-volume-claim.requests.storage",
            accepts: value::BYTES,
            default: "none",
            doc: "Keep the state of each pod on a persistent volume of this size, which outlives the pod. The pods are those of a StatefulSet then.",
        },
        read: Read::One(|options, text| value::room(text).map(|value| options.claim.storage = value)),
    },
    Entry {
        key: OptionKey {
            name: "storageclass",
            accepts: "the name of a StorageClass; an empty one means volumes without a class, which exist already",
            default: "the cluster's default class",
            doc: "The class of those volumes.",
        },
        read: Read::One(|options, text| {
            match text {
                "" => Ok(Some(String::new())),
                _ => value::object(text),
            }
            .map(|value| options.claim.class = value)
        }),
    },
    Entry {
        key: OptionKey {
            name: "volume-access-mode",
            accepts: "ReadWriteOnce, ReadWriteOncePod or ReadWriteMany",
            default: "ReadWriteOnce",
            doc: "How those volumes are mounted. Each pod has its own one in any case.",
        },
        read: Read::One(|options, text| AccessMode::parse(text).map(|value| options.claim.access = Some(value))),
    },
];
