# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # scripts/cluster sources all parts; they share their variables
# `scripts/cluster images`: the images that the cluster's pods need, made from the binaries of `build`, under the names that
# buildx asks for by default. No tag is `latest`, so the kubelet never tries to pull them.

image_buildkit=docker.io/moby/buildkit:buildx-stable-1
image_rootless=docker.io/moby/buildkit:buildx-stable-1-rootless
image_qemu=docker.io/tonistiigi/binfmt:rig
image_pause=docker.io/buildfleet/pause:rig

copy_libraries() { # copy_libraries ROOT BINARY...: what the dynamic linker would load for them
  local root=$1 library; shift
  for library in $(ldd "$@" | grep -o '/lib[^ ]*' | sort -u); do install -D "$library" "$root$library"; done
  if ldd "$@" | grep 'not found' >&2; then die "libraries are missing for $*"; fi
}

stage_pause() {
  mkdir -p "$1"
  # The kubelet's pause: it reaps orphans where pods share a pid namespace, and ends at once when asked.
  printf '%s\n' '#include <signal.h>' '#include <sys/wait.h>' '#include <unistd.h>' \
    'static void end(int s) { (void)s; _exit(0); }' 'static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0) {} }' \
    'int main(void) { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap); for (;;) pause(); }' |
    gcc -static -O2 -Wl,--build-id=none -x c -o "$1/pause" -
}

stage_base() {
  local root=$1 tool
  mkdir -p "$root"/{bin,sbin,etc,run,root,proc,sys,dev,tmp,var/lib,usr/bin}
  chmod 1777 "$root/tmp"; chmod 700 "$root/root"
  install "$deb/busybox-static/bin/busybox" "$root/bin/busybox"
  while read -r tool; do
    [ "${tool##*/}" = busybox ] || [ -e "$root/bin/${tool##*/}" ] || ln -s busybox "$root/bin/${tool##*/}"
  done < <("$root/bin/busybox" --list)
  ln -s ../bin/busybox "$root/usr/bin/env"
  printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
  if [ -f /etc/ssl/certs/ca-certificates.crt ]; then install -Dm 644 /etc/ssl/certs/ca-certificates.crt -t "$root/etc/ssl/certs"; fi
}

stage_buildkit() {
  install -D "$bin/buildkitd" "$bin/buildctl" "$bin/buildctl-daemonless.sh" -t "$1/usr/bin"
  install "$bin/runc" "$1/usr/bin/buildkit-runc"
}

# For contexts from repositories, as in the images that it stands for; `git submodule` is a script, and the rest is one program.
stage_git() {
  local root=$1 git exec
  git=$(command -v git); exec=$(git --exec-path)
  install -D "$git" -t "$root/usr/bin"; copy_libraries "$root" "$git"
  mkdir -p "$root$exec"
  install "$exec"/git-{submodule,sh-setup,sh-i18n} "$root$exec/"
}

stage_rootless() {
  local root=$1 f
  mkdir -p "$root/usr/bin"
  for f in "$deb/rootlesskit/usr/bin/rootlesskit" "$deb"/uidmap/usr/bin/new{u,g}idmap; do
    install -m 755 "$f" "$root/usr/bin/"   # without Debian's setuid bit, which does not work without CAP_SYS_ADMIN ...
    copy_libraries "$root" "$f"
  done
  setcap cap_setuid+ep "$root/usr/bin/newuidmap"   # ... while file capabilities do
  setcap cap_setgid+ep "$root/usr/bin/newgidmap"
  mkdir -p "$root"/home/user/.local/{tmp,share/buildkit} "$root/run/user/1000" "$root/etc"
  echo user:100000:65536 | tee "$root/etc/subuid" >"$root/etc/subgid"
  chown -R 1000:1000 "$root/home/user" "$root/run/user/1000"
}

stage_qemu() {
  install -D "$deb/qemu-user-static/usr/bin/qemu-aarch64-static" -t "$1/usr/bin"
  install "$rig_source/register-qemu" "$1/usr/bin/register-qemu"
}

image_spec() { # image_spec WORK
  local user='"User":"1000:1000","Volumes":{"/home/user/.local/share/buildkit":{}},"Env":["HOME=/home/user","USER=user","XDG_RUNTIME_DIR=/run/user/1000","TMPDIR=/home/user/.local/tmp","BUILDKIT_HOST=unix:///run/user/1000/buildkit/buildkitd.sock"]'
  cat <<END
[{"name": "$image_pause", "layers": ["$1/pause"], "config": {"Entrypoint": ["/pause"]}},
 {"name": "$image_buildkit", "layers": ["$1/base", "$1/git", "$1/buildkit"],
  "config": {"Entrypoint": ["buildkitd"], "Volumes": {"/var/lib/buildkit": {}}}},
 {"name": "$image_rootless", "layers": ["$1/base", "$1/git", "$1/buildkit", "$1/rootless"],
  "config": {"Entrypoint": ["rootlesskit", "buildkitd"], $user}},
 {"name": "$image_qemu", "layers": ["$1/base", "$1/qemu"], "config": {"Entrypoint": ["register-qemu"]}}]
END
}

images_recipe() {
  { cat "$rig_source"/{images.sh,mkimage.py,register-qemu} "$rig_cache"/stamp/{buildkit,runc,debian}; } | sha256sum | cut -d' ' -f1
}

cluster_images() {
  local c work recipe
  need_root images
  lock images 300
  for c in buildkit runc debian; do [ -f "$rig_cache/stamp/$c" ] || die "images: '$c' is not built yet: run scripts/cluster build"; done
  recipe=$(images_recipe)
  if [ -f "$image_archive" ] && [ "$(cat "$rig_cache/stamp/images" 2>/dev/null)" = "$recipe" ]; then
    say "images: nothing to do"; exec 9>&-; return
  fi
  need_packages gcc libc6-dev libcap2-bin python3 git
  mkdir -p "${image_archive%/*}"
  rm -rf "${image_archive%/*}"/work.*
  work=$(mktemp -d "${image_archive%/*}/work.XXXXXX")
  for c in pause base git buildkit rootless qemu; do (umask 022; "stage_$c" "$work/$c"); done
  doing="packing of images"
  image_spec "$work" | step "made images" python3 "$rig_source/mkimage.py" "$work/images.tar"
  doing=
  mv "$work/images.tar" "$image_archive"
  rm -rf "$work"
  echo "$recipe" >"$rig_cache/stamp/images"
  exec 9>&-
}
