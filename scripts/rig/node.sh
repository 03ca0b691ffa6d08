#!/usr/bin/env bash
# The first process of a node: node.sh DIRECTORY, run by `unshare --mount --pid --fork`. The containerd, the kubelet and all the pods
# of a node live in its mount and pid namespaces, so they end with this process, and their mounts with them.
set -euo pipefail
dir=$1

mount --make-rshared /
mount -t proc proc /proc
# Two nodes share one machine's file system: each gets its own copy of what kubelet, containerd and CNI keep at fixed places.
mkdir -p "$dir"/{var-lib,var-log}
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$dir/var-lib" /var/lib
mount --bind "$dir/var-log" /var/log
touch "$dir/ready"

# Bash collects the orphans that a dead containerd leaves; the loop only gives it something to wait for.
trap 'exit 0' TERM
while :; do sleep infinity & wait $! || true; done
