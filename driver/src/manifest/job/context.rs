//! How a context gets into a Job's pod: an init container waits for it, and a second process in that one receives it.

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Volume, VolumeMount};

use super::without_rights;

/// The init container that waits for the context.
pub const CONTEXT_CONTAINER: &str = "context";

const VOLUME: &str = "workspace";
const WORKSPACE: &str = "/workspace";

/// Where an uploaded context is in the pod.
pub const CONTEXT_DIRECTORY: &str = "/workspace/context";

/// How long nothing may come until the wait is given up: whoever uploads is gone.
const IDLE_SECONDS: u32 = 120;

/// It ends by itself when nobody brings anything, so that no pod is left by a daemon that was killed.
pub(super) fn container(main: &Container) -> Container {
    let script = format!(
        "idle=0\n\
         until [ -e {WORKSPACE}/.ready ]; do\n  \
           if [ -e {WORKSPACE}/.moving ]; then rm -f {WORKSPACE}/.moving; idle=0; fi\n  \
           idle=$((idle + 1))\n  \
           if [ \"$idle\" -gt {} ]; then echo 'no context has come for {IDLE_SECONDS} s' >&2; exit 1; fi\n  \
           sleep 0.5\n\
         done\n",
        IDLE_SECONDS * 2
    );
    Container {
        name: CONTEXT_CONTAINER.to_owned(),
        image: main.image.clone(),
        command: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]),
        // A quota may demand them of every container, and the pod's own need is the larger of both.
        resources: main.resources.clone(),
        security_context: Some(without_rights()),
        volume_mounts: Some(vec![mount()]),
        ..Container::default()
    }
}

pub(super) fn volume() -> Volume {
    Volume { name: VOLUME.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

pub(super) fn mount() -> VolumeMount {
    VolumeMount { name: VOLUME.to_owned(), mount_path: WORKSPACE.to_owned(), ..VolumeMount::default() }
}

/// The command that takes a context from its input, to be run in [`CONTEXT_CONTAINER`]: blocks, each behind a line with its
/// size, and at the end a line `0`. What is in the blocks is a gzipped tar archive.
///
/// The end of the input cannot tell the end of the context: API servers before 1.30 do not pass it on, and a connection that
/// breaks would look the same. `dd` alone reads as many bytes as it is told and not one more.
pub fn receive_context() -> Vec<String> {
    let script = format!(
        "set -e\n\
         cd {WORKSPACE}\n\
         mkdir {CONTEXT_DIRECTORY}\n\
         {{\n  \
           while read -r size && [ \"$size\" != 0 ]; do\n    \
             : >.moving\n    \
             dd bs=\"$size\" count=1 iflag=fullblock 2>/dev/null || exit 1\n  \
           done\n  \
           if [ \"$size\" = 0 ]; then : >.whole; fi\n\
         }} | tar -xpzf - -C {CONTEXT_DIRECTORY}\n\
         [ -e .whole ] || {{ echo 'the context has broken off' >&2; exit 1; }}\n\
         mv .whole .ready\n"
    );
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}
