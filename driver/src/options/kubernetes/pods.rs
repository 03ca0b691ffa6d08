//! What a pod is and what belongs to it.

use super::super::BudgetError;
use super::super::pairs;
use super::super::patch::ManifestPatch;
use super::super::table::{Entry, OptionKey, Read};
use super::super::value::{self, ValueError};
use super::KubernetesOptions;

const IMAGE: &str = "the name of an image, without white space; an empty one means the default";

pub(super) static KEYS: [Entry<KubernetesOptions>; 15] = [
    Entry {
        key: OptionKey {
            name: "namespace",
            accepts: "a DNS label of at most 63 characters, as in builds or team-a",
            default: "the namespace of the kubeconfig's context",
            doc: "Where the pods and everything else that belongs to the node is made.",
        },
        read: Read::One(|options, text| value::namespace(text).map(|value| options.namespace = value)),
    },
    Entry {
        key: OptionKey {
            name: "image",
            accepts: IMAGE,
            default: "`moby/buildkit:buildx-stable-1`, with `rootless=true` `moby/buildkit:buildx-stable-1-rootless`",
            doc: "The image that `buildkitd` and `buildctl` come from. With `rootless=true` it has to be a rootless one.",
        },
        read: Read::One(|options, text| value::image(text).map(|value| options.image = value)),
    },
    Entry {
        key: OptionKey {
            name: "replicas",
            accepts: "a whole number from 1 to 1000",
            default: "1",
            doc: "How many equal pods the node has. A build waits for one of them, not for all.",
        },
        read: Read::One(|options, text| value::replicas(text).map(|value| options.replicas = value)),
    },
    Entry {
        key: OptionKey {
            name: "rootless",
            accepts: value::BOOLEAN,
            default: "false",
            doc: "Run `buildkitd` as user 1000 by rootlesskit instead of in a privileged container.",
        },
        read: Read::One(|options, text| value::boolean(text).map(|value| options.rootless = value)),
    },
    Entry {
        key: OptionKey {
            name: "hostusers",
            accepts: value::BOOLEAN,
            default: "true",
            doc: "With false, pods have a user namespace of their own: root in a pod is nobody on the machine, privileged or not. Not with `rootless` or `qemu.install`.",
        },
        read: Read::One(|options, text| value::boolean(text).map(|value| options.host_users = value)),
    },
    Entry {
        key: OptionKey {
            name: "env.NAME",
            accepts: "any text; NAME is letters, digits, `-`, `_` and `.`, and does not start with a digit",
            default: "none",
            doc: "An environment variable of `buildkitd`, as in env.HTTPS_PROXY=http://proxy:3128.",
        },
        read: Read::Family(|options, name, text| pairs::add_variable(&mut options.env, name, text)),
    },
    Entry {
        key: OptionKey {
            name: "qemu.install",
            accepts: value::BOOLEAN,
            default: "false",
            doc: "Register QEMU on the pod's machine before `buildkitd` starts, by a privileged init container, so that \
                  one node builds for other architectures by emulation.",
        },
        read: Read::One(|options, text| value::boolean(text).map(|value| options.qemu_install = value)),
    },
    Entry {
        key: OptionKey {
            name: "qemu.image",
            accepts: IMAGE,
            default: "`tonistiigi/binfmt:latest`",
            doc: "The image of that init container.",
        },
        read: Read::One(|options, text| value::image(text).map(|value| options.qemu_image = value)),
    },
    Entry {
        key: OptionKey {
            name: "labels",
            accepts: "labels as key=value with commas between them, as in team=web,tier=ci",
            default: "none",
            doc: "Labels of the workload and of its pods, beside `app` and `app.kubernetes.io/managed-by`, which are reserved.",
        },
        read: Read::One(|options, text| pairs::labels(text).map(|value| options.labels = value)),
    },
    Entry {
        key: OptionKey {
            name: "annotations",
            accepts: "annotations as key=value with commas between them; a value ends at the comma and may hold `=`",
            default: "none",
            doc: "Annotations of the workload and of its pods. `buildx.docker.com/platform` is reserved.",
        },
        read: Read::One(|options, text| pairs::annotations(text).map(|value| options.annotations.extend(value))),
    },
    Entry {
        key: OptionKey {
            name: "annotations.NAME",
            accepts: "any text; NAME is the key of an annotation, as in example.com/contact",
            default: "none",
            doc: "One annotation, whose value may hold commas: the whole option is put into double quotes then.",
        },
        read: Read::Family(|options, name, text| pairs::add_annotation(&mut options.annotations, name, text)),
    },
    Entry {
        key: OptionKey {
            name: "serviceaccount",
            accepts: value::OBJECT_OR_NONE,
            default: "the namespace's default one, whose token is not mounted",
            doc: "The service account of the pods. Its token is mounted, for RUN steps to see as well.",
        },
        read: Read::One(|options, text| value::object_or_none(text).map(|value| options.serviceaccount = value)),
    },
    Entry {
        key: OptionKey {
            name: "imagepullsecrets",
            accepts: "names of Secrets, with commas between them",
            default: "those of the service account",
            doc: "Secrets by which machines pull the images of the pods.",
        },
        read: Read::One(|options, text| value::objects(text).map(|value| options.imagepullsecrets = value)),
    },
    Entry {
        key: OptionKey {
            name: "poddisruptionbudget",
            accepts: "minAvailable= or maxUnavailable= with a number of pods, or with a percentage as in 50%",
            default: "none",
            doc: "How many pods evictions have to leave, as in `kubectl drain`. A pod waits for its builds in any case, up to `drain-timeout`.",
        },
        read: Read::One(|options, text| {
            text.parse()
                .map_err(|error: BudgetError| ValueError::inner(error))
                .map(|value| options.budget = Some(value))
        }),
    },
    Entry {
        key: OptionKey {
            name: "manifest-patch",
            accepts: "a strategic merge patch in JSON or YAML that leaves names, selector and replicas alone, or @FILE",
            default: "none",
            doc: "What no option says, applied last to the Deployment or StatefulSet.",
        },
        read: Read::One(|options, text| {
            ManifestPatch::parse(text).map_err(ValueError::inner).map(|value| options.manifest_patch = Some(value))
        }),
    },
];
