//! What a machine's kernel lets `buildkitd` do that is not root there: pure.

/// From this release on, overlayfs mounts in user namespaces.
const OVERLAYFS: (u32, u32) = (5, 11);

/// From this one on, all that a pod in a user namespace mounts, tmpfs among it, can be idmapped.
const IDMAPPED: (u32, u32) = (6, 3);

/// Major and minor, as in `6.8.0-45-generic`.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(['.', '-', '+']).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What is lost without root on a kernel of this release; `None` also where it is not known.
pub(super) fn without_overlayfs(kernel: &str) -> Option<String> {
    release(kernel).filter(|release| *release < OVERLAYFS).map(|_| {
        format!(
            "kernel {} has no overlayfs for user namespaces, as 5.11 and newer have: buildkitd copies each layer, unless it has \
             fuse-overlayfs and /dev/fuse",
            kernel.trim()
        )
    })
}

/// Whether pods can have user namespaces of their own; `None` where it is not known.
pub(super) fn has_idmapped_mounts(kernel: &str) -> Option<bool> {
    release(kernel).map(|release| release >= IDMAPPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_a_kernel_says_what_it_can() {
        for (kernel, overlayfs, idmapped) in [
            ("6.8.0-45-generic", true, Some(true)),
            ("6.3.0", true, Some(true)),
            ("6.2.16-3-pve", true, Some(false)),
            ("5.11.0\n", true, Some(false)),
            ("5.10.0-32-cloud-amd64", false, Some(false)),
            ("4.18.0-553.el8_10.x86_64", false, Some(false)),
            ("5.4+", false, Some(false)),
            ("unknown", true, None),
            ("", true, None),
        ] {
            let found = (without_overlayfs(kernel).is_none(), has_idmapped_mounts(kernel));
            assert_eq!(found, (overlayfs, idmapped), "{kernel}");
        }
    }
}
