# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # scripts/cluster sources all parts; they share their variables
# `scripts/cluster build`: the binaries of the rig. Go commands are built from the go.mod and go.sum files beside this one, and
# Debian's programs are unpacked rather than installed, so that no service starts and nothing changes on the machine.
# Every component has a stamp of what it was made from; a component with a matching stamp is not touched.

rig_components=(runc buildkit buildx hashring compose containerd kube h2spec docker debian engine ssh)

# pin COMPONENT MODULE: the version in the component's go.mod, the only place where it is written.
pin() { awk -v m="$2" '$1 == m {print $2; exit} $1 == "require" && $2 == m {print $3; exit}' "$rig_source/$1/go.mod"; }

go_install() { # go_install COMPONENT ARGS...: one `go build` with the pins of a component
  local component=$1; shift
  (cd "$rig_source/$component" && GOFLAGS="" GOWORK=off nice -n 5 go build -mod=readonly -buildvcs=false -trimpath "$@")
}

build_runc() {
  local v; v=$(pin runc github.com/opencontainers/runc)
  # Static, because the same binary goes into images that have no C library.
  CGO_ENABLED=1 go_install runc -tags "seccomp netgo osusergo" \
    -ldflags "-s -w -extldflags -static -X main.version=${v#v}" -o "$bin/" github.com/opencontainers/runc
}

build_buildkit() {
  local m=github.com/moby/buildkit
  CGO_ENABLED=0 go_install buildkit -ldflags "-s -w -X $m/version.Version=$(pin buildkit $m)" -o "$bin/" $m/cmd/buildkitd $m/cmd/buildctl \
    $m/frontend/dockerfile/cmd/dockerfile-frontend   # for Dockerfiles with a `# syntax=` line
  install -m 755 "$(cd "$rig_source/buildkit" && GOWORK=off go list -m -f '{{.Dir}}' $m)"/examples/buildctl-daemonless/buildctl-daemonless.sh "$bin/"
}

build_buildx() {
  local m=github.com/docker/buildx
  CGO_ENABLED=0 go_install buildx -ldflags "-s -w -X $m/version.Version=$(pin buildx $m)" -o "$bin/docker-buildx" $m/cmd/buildx
}

# The library of consistent hashing, as buildx has it pinned.
build_hashring() {
  CGO_ENABLED=0 go_install buildx -ldflags "-s -w" -o "$bin/hashring" ./hashring
}

build_compose() {
  local m=github.com/docker/compose/v5
  CGO_ENABLED=0 go_install compose -ldflags "-s -w -X $m/internal.Version=$(pin compose $m)" -o "$bin/docker-compose" $m/cmd
}

build_containerd() {
  local m=github.com/containerd/containerd/v2
  CGO_ENABLED=0 go_install containerd -ldflags "-s -w -X $m/version.Version=$(pin containerd $m)" \
    -o "$bin/" $m/cmd/containerd $m/cmd/containerd-shim-runc-v2 $m/cmd/ctr
}

build_kube() {
  local v x=k8s.io/component-base/version c commands=(); v=$(pin kube k8s.io/kubernetes)
  for c in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do commands+=("k8s.io/kubernetes/cmd/$c"); done
  # Without these the server says v0.0.0, and clients refuse to talk to it.
  CGO_ENABLED=0 go_install kube -ldflags "-s -w -X $x.gitMajor=1 -X $x.gitMinor=$(cut -d. -f2 <<<"$v") -X $x.gitVersion=$v" \
    -o "$bin/" "${commands[@]}"
}

build_h2spec() {
  CGO_ENABLED=0 go_install h2spec -ldflags "-s -w" -o "$bin/" github.com/summerwind/h2spec/cmd/h2spec
}

installed_docker() { PATH=${PATH//$bin:/} command -v docker || true; }   # not our own, when called from `scripts/cluster sh`

build_docker() {
  local installed; installed=$(installed_docker)
  rm -f "$bin/docker"
  if [ -n "$installed" ]; then ln -s "$installed" "$bin/docker"; return; fi
  # One of the modules that the CLI needs is not served by the module proxy; Debian's client is as good, it only hosts the plugin.
  local package=docker.io
  apt_lists; apt-cache show docker-cli >/dev/null 2>&1 && package=docker-cli
  unpack_deb "$package"
  install -m 755 "$deb/$package/usr/bin/docker" "$bin/docker"; rm -rf "${deb:?}/$package"
}

build_debian() {
  local p
  apt_lists
  for p in etcd-server docker-registry busybox-static qemu-user-static rootlesskit uidmap containernetworking-plugins; do unpack_deb "$p"; done
  find "$deb/qemu-user-static/usr" -type f ! -name qemu-aarch64-static -delete   # 300 MB of other machines
  unpack_arm64_busybox
}

# For `--load`: any engine with the API that clients still speak.
build_engine() {
  apt_lists
  unpack_deb docker.io
  mv "$deb/docker.io/usr/sbin/dockerd" "$deb/docker.io/"; rm -rf "$deb/docker.io/usr"
  install -D "$deb/docker.io/dockerd" -t "$deb/docker.io/usr/bin"; rm "$deb/docker.io/dockerd"
}

# For builders on other machines: the server, and the one library of it that a machine with the client need not have.
build_ssh() {
  apt_lists
  unpack_deb openssh-server; unpack_deb libwrap0
}

apt_lists() {
  [ -n "${apt_lists_fresh-}" ] && return
  apt-cache show etcd-server >/dev/null 2>&1 || apt-get update -qq >&2
  apt_lists_fresh=1
}

unpack_deb() { # unpack_deb PACKAGE [APT-OPTION...]: into $deb/PACKAGE
  local package=$1 tmp; shift
  tmp=$(mktemp -d "$rig_cache/tmp.XXXXXX")
  if ! (cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root "$@" download "$package" >&2); then
    # The list is older than the archive: versions that it names may be gone.
    apt-get -qq "$@" update >&2; (cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root "$@" download "$package" >&2)
  fi
  rm -rf "${deb:?}/${unpack_as:-$package}"; mkdir -p "$deb"
  dpkg -x "$tmp"/*.deb "$deb/${unpack_as:-$package}"
  rm -rf "$tmp"
}

unpack_arm64_busybox() {
  # A state directory of its own: the machine itself need not know of a second architecture.
  local state=$rig_cache/apt-arm64 options
  mkdir -p "$state"/{lists,cache/archives}/partial
  options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache"
    -o Dir::State::status=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get -qq "${options[@]}" update >&2
  unpack_as=busybox-static-arm64 unpack_deb busybox-static "${options[@]}"
  rm -rf "$state"
}

# What a component is made from: its pins, and the text of the functions that make it.
recipe_of() {
  { cat "$rig_source/$1"/go.{mod,sum} 2>/dev/null || true; declare -f "build_$1" go_install
    case $1 in debian|docker|engine|ssh) declare -f unpack_deb unpack_arm64_busybox ;; esac
    case $1 in docker) installed_docker ;; hashring) cat "$rig_source"/buildx/{go.mod,go.sum,hashring/main.go} ;; esac; } | sha256sum | cut -d' ' -f1
}

built() { [ "$(cat "$rig_cache/stamp/$1" 2>/dev/null)" = "$2" ]; }

need_packages() { # what compiling and running need of the machine itself
  local missing=() p
  for p in "$@"; do dpkg-query -Wf '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || die "as root: apt-get install --no-install-recommends ${missing[*]}"
  say "installing ${missing[*]}"
  apt-cache show "${missing[@]}" >/dev/null 2>&1 || apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get could not install ${missing[*]}"
}

newer_or_same() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$2" ]; }

need_go() { # need_go COMPONENT...: a Go as new as the newest go.mod among them asks for
  local want=0 c v
  for c in "$@"; do
    [ "$c" = hashring ] && c=buildx
    v=$(awk '$1 == "go" {print $2}' "$rig_source/$c/go.mod" 2>/dev/null || true)
    if [ -n "$v" ] && newer_or_same "$v" "$want"; then want=$v; fi
  done
  [ "$want" = 0 ] && return
  if ! command -v go >/dev/null; then
    v=$(apt-cache search --names-only '^golang-1\.[0-9]+-go$' | sed -E 's/^golang-(1\.[0-9]+)-go.*/\1/' | sort -V | tail -n1)
    if [ -n "$v" ] && newer_or_same "$v" 1.21; then
      need_packages "golang-$v-go"; PATH=/usr/lib/go-$v/bin:$PATH
    else
      die "Go $want or newer is needed (or 1.21 or newer, where GOTOOLCHAIN=auto can get it), and Debian's lists here have none: install Go and put it in PATH"
    fi
  fi
  v=$(cd / && go env GOVERSION); v=${v#go}
  newer_or_same "$v" "$want" && return
  newer_or_same "$v" 1.21 || die "Go $want or newer is needed; $(command -v go) is $v"
  say "Go $v is older than the $want that is needed: trying GOTOOLCHAIN=auto"
  export GOTOOLCHAIN=auto
}

cluster_build() {
  local wanted=("$@") c known todo=() recipe
  [ ${#wanted[@]} = 0 ] && wanted=("${rig_components[@]}")
  for c in "${wanted[@]}"; do
    known=" ${rig_components[*]} "
    [[ $known == *" $c "* ]] || die "build: no component '$c'; there are:$known"
  done
  lock build 1800
  mkdir -p "$bin" "$rig_cache/stamp"
  for c in "${wanted[@]}"; do built "$c" "$(recipe_of "$c")" || todo+=("$c"); done
  if [ ${#todo[@]} = 0 ]; then say "build: nothing to do for ${wanted[*]}"; exec 9>&-; return; fi
  [[ " ${todo[*]} " == *" runc "* ]] && need_packages gcc libc6-dev libseccomp-dev pkg-config
  [[ " ${todo[*]} " == *" engine "* ]] && need_packages libdevmapper1.02.1
  need_go "${todo[@]}"
  for c in "${todo[@]}"; do
    recipe=$(recipe_of "$c")
    rm -f "$rig_cache/stamp/$c"
    say "building $c"
    doing="build of $c"   # not `|| die`: that would switch off errexit in the function
    step "built $c" "build_$c"
    doing=
    echo "$recipe" >"$rig_cache/stamp/$c"
  done
  exec 9>&-
}
