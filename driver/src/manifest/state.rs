//! Where a pod's `buildkitd` keeps its state: on the machine's disk, in memory, or on a volume that outlives the pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, SecurityContext, Volume,
    VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::builder::Node;
use crate::options::{AccessMode, KubernetesOptions};

use super::labels;

const VOLUME: &str = "buildkitd";

/// On a volume of its own, because overlayfs does not nest in a container's layer, and because the image's VOLUME is
/// mounted nosuid and nodev on some machines (moby/buildkit#879).
fn directory(options: &KubernetesOptions) -> &'static str {
    if options.rootless { "/home/user/.local/share/buildkit" } else { "/var/lib/buildkit" }
}

pub(super) fn mount(options: &KubernetesOptions) -> VolumeMount {
    VolumeMount { name: VOLUME.to_owned(), mount_path: directory(options).to_owned(), ..VolumeMount::default() }
}

/// The volume that goes with its pod; a claim's is not one of the template's.
pub(super) fn volume(options: &KubernetesOptions) -> Option<Volume> {
    let memory = options.memory_volume.as_ref();
    let empty_dir = EmptyDirVolumeSource {
        medium: memory.map(|_| "Memory".to_owned()),
        size_limit: memory.map(|size| Quantity(size.to_string())),
    };
    (!options.is_stateful()).then(|| Volume {
        name: VOLUME.to_owned(),
        empty_dir: Some(empty_dir),
        ..Volume::default()
    })
}

/// The volume that outlives its pod. It has no labels of the user's: a StatefulSet cannot be changed there.
pub(super) fn claims(node: &Node, options: &KubernetesOptions) -> Option<Vec<PersistentVolumeClaim>> {
    let storage = Quantity(options.claim.storage.as_ref()?.to_string());
    let access = options.claim.access.unwrap_or(AccessMode::ReadWriteOnce);
    Some(vec![PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(VOLUME.to_owned()), labels: Some(labels(node)), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![access.as_str().to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage)])),
                limits: None,
            }),
            storage_class_name: options.claim.class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }])
}

/// A fresh disk belongs to root, and a rootless `buildkitd` could not write to it. An fsGroup would put the setgid bit on
/// it, from where every directory that a RUN step makes takes it into the image.
pub(super) fn hand_over(options: &KubernetesOptions, image: &str, user: i64) -> Option<Container> {
    (options.is_stateful() && options.rootless).then(|| Container {
        name: "state".to_owned(),
        image: Some(image.to_owned()),
        command: Some(["chown", &format!("{user}:{user}"), directory(options)].map(str::to_owned).to_vec()),
        security_context: Some(SecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![mount(options)]),
        ..Container::default()
    })
}
