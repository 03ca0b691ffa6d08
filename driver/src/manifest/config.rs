//! The Secret with what `buildkitd` is configured by, and its place in a pod.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{KeyToPath, Secret, SecretVolumeSource, Volume, VolumeMount};

use crate::builder::Node;
use crate::fnv;
use crate::options::KubernetesOptions;

use super::{config_name, metadata};

const VOLUME: &str = "config";

/// Where `buildkitd` looks by itself. One that runs by rootlesskit looks below its home (docker/buildx#4080).
fn directory(options: &KubernetesOptions) -> &'static str {
    if options.rootless { "/home/user/.config/buildkit" } else { "/etc/buildkit" }
}

/// The files by their paths in that directory.
fn files(node: &Node, options: &KubernetesOptions) -> Option<BTreeMap<String, String>> {
    node.config.as_ref().map(|config| config.files_in(directory(options)))
}

/// A Secret, because keys are among the files.
pub(super) fn secret(node: &Node, options: &KubernetesOptions, namespace: &str) -> Option<Secret> {
    let data = files(node, options)?.into_iter().map(|(path, text)| (key(&path), ByteString(text.into_bytes())));
    Some(Secret {
        metadata: metadata(node, namespace, config_name(node)),
        type_: Some("Opaque".to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    })
}

pub(super) fn volume(node: &Node, options: &KubernetesOptions) -> Option<Volume> {
    let files = files(node, options)?;
    let items = files.into_keys().map(|path| KeyToPath { key: key(&path), path, mode: None });
    Some(Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(config_name(node)),
            items: Some(items.collect()),
            default_mode: Some(file_mode(options)),
            optional: None,
        }),
        ..Volume::default()
    })
}

pub(super) fn mount(node: &Node, options: &KubernetesOptions) -> Option<VolumeMount> {
    node.config.as_ref().map(|_| VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: directory(options).to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

/// The mode of files that come from Secrets.
///
/// User 1000 has to read them by their mode for all: an fsGroup would give them to its group, but also puts the setgid bit
/// on the emptyDir, from where every directory that a RUN step makes takes it into the image.
pub(super) fn file_mode(options: &KubernetesOptions) -> i32 {
    if options.rootless { 0o444 } else { 0o400 }
}

/// What changes with the content: `buildkitd` reads its configuration once, so pods have to be replaced with it. It is
/// there for comparison alone, and tells nothing of a key that is in there (64 bits of it all).
pub(super) fn fingerprint(node: &Node, options: &KubernetesOptions) -> Option<String> {
    let files = files(node, options)?;
    let bytes = files.iter().flat_map(|(path, text)| path.bytes().chain([0]).chain(text.bytes()).chain([0]));
    Some(format!("{:016x}", fnv::hash(bytes)))
}

/// The key of a file in the Secret, where names have no slashes. A registry's directory has no two `_` in a row.
fn key(path: &str) -> String {
    path.replace('/', "__")
}
