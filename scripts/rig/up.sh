# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # scripts/cluster sources all parts; they share their variables
# `scripts/cluster up`: a Kubernetes cluster in one network namespace. Every step looks first whether its work is done already,
# so that a second `up` does nothing, and an `up` after a failure or a crash starts what is missing.

components=(etcd apiserver kcm scheduler registry node-amd64 node-arm64 node-amd64-containerd node-arm64-containerd
  node-amd64-kubelet node-arm64-kubelet)

in_netns() { nsenter --net="$netns" "$@"; }   # `ip netns exec` would mount another /sys, without cgroups
kube() { in_netns "$bin/kubectl" --kubeconfig="$run/kubeconfig" --request-timeout=5s "$@"; }

# Not the caller's PATH: containerd and the network plugins find runc and iptables by it.
daemon_path=$bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# They are Go programs that start small: by default they look for garbage all the time, and it is the processor that is scarce.
daemon_gc=400

# start NAME CMD...: a daemon in the network namespace, in a session of its own, so that a Ctrl-C does not reach it. The process
# notes its own pid before it becomes the daemon: an `up` that is killed here leaves nothing that `down` would not find.
start() {
  local name=$1; shift
  (cd / && remember "$name" "$BASHPID" && PATH=$daemon_path GOGC=$daemon_gc exec setsid nsenter --net="$netns" "$@" >>"$log/$name.log" 2>&1 </dev/null 9>&-) &
  started "$name" $!
}

# start_in NODE NAME CMD...: the same inside a node. nsenter has to fork for a pid namespace, so the noted process is the daemon's
# parent, which ends when the daemon does.
start_in() {
  local name=$2 target; target=$(child_of "$1"); shift 2
  (cd / && remember "$name" "$BASHPID" && PATH=$daemon_path GOGC=$daemon_gc exec setsid nsenter --target="$target" --mount --pid --net "$@" >>"$log/$name.log" 2>&1 </dev/null 9>&-) &
  started "$name" $!
}

started() { # started NAME PID: until the pid is noted, the component would count as dead
  local until; until=$(($(now_ms) + 5000))
  while [ "$(pid_of "$1")" != "$2" ]; do
    if [ ! -d "/proc/$2" ] || [ "$(now_ms)" -gt "$until" ]; then show_log "$1"; die "$1 did not start"; fi
    sleep 0.01
  done
}

# child_of COMPONENT: the process that matters of a node (its first) or of a daemon in a node.
child_of() { local outer; outer=$(pid_of "$1") && pgrep -P "$outer"; }

make_network() {
  # On a file of ours, not by `ip netns add`, which leaves a mount on /run/netns.
  has_netns || { : >"$netns"; unshare --net="$netns" true; }
  in_netns ip link set lo up
  # A veth pair carries the node addresses, because not every kernel has dummy links.
  if ! in_netns ip link show node0 >/dev/null 2>&1; then in_netns ip link add node0 type veth peer name node0p; fi
  in_netns ip link set node0p up; in_netns ip link set node0 up
  in_netns ip addr replace "$address_amd64/24" dev node0
  in_netns ip addr replace "$address_arm64/24" dev node0
  in_netns ip route replace default via "$address_amd64" dev node0   # the API server wants one, though nothing is beyond
  in_netns sysctl -qw net.ipv4.ip_forward=1
}

certificate() { # certificate NAME SUBJECT USAGE [SAN]: signed by the cluster's CA
  local pki=$run/pki
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$pki/$1.key" -subj "$2" 2>/dev/null |
    openssl x509 -req -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 30 -out "$pki/$1.crt" 2>/dev/null \
      -extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\n%s\n' "$3" "${4:+subjectAltName=$4}")
}

kubeconfig() { # kubeconfig FILE CERTIFICATE
  local pki=$run/pki
  cat >"$1" <<END
apiVersion: v1
kind: Config
clusters: [{name: buildfleet-$rig_name, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}}]
users: [{name: $2, user: {client-certificate-data: $(base64 -w0 "$pki/$2.crt"), client-key-data: $(base64 -w0 "$pki/$2.key")}}]
contexts: [{name: buildfleet-$rig_name, context: {cluster: buildfleet-$rig_name, user: $2}}]
current-context: buildfleet-$rig_name
END
}

make_pki() {
  local pki=$run/pki n address
  [ -e "$pki/done" ] && return
  (umask 077; mkdir -p "$pki")
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=buildfleet-$rig_name-ca" \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature -keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
  openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null; openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
  certificate apiserver /CN=kube-apiserver serverAuth "IP:127.0.0.1,IP:$address_amd64,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate admin /O=system:masters/CN=admin clientAuth
  certificate kcm /CN=system:kube-controller-manager clientAuth
  certificate scheduler /CN=system:kube-scheduler clientAuth
  for n in amd64 arm64; do
    address=address_$n
    certificate "kubelet-$n" "/O=system:nodes/CN=system:node:node-$n" clientAuth
    certificate "kubelet-$n-server" "/O=system:nodes/CN=system:node:node-$n" serverAuth "IP:${!address},DNS:node-$n"
    kubeconfig "$run/kubelet-$n.kubeconfig" "kubelet-$n"
  done
  kubeconfig "$run/kcm.kubeconfig" kcm; kubeconfig "$run/scheduler.kubeconfig" scheduler; kubeconfig "$run/kubeconfig" admin
  chmod 600 "$run"/*kubeconfig
  touch "$pki/done"
}

# What `up` changes on the machine as a whole is noted before it is changed, so that `down` undoes it even if we die in between.
# Clusters of other names share these notes; the last one to go undoes them.
note_machine() {
  local key misc=/proc/sys/fs/binfmt_misc
  [ "$(cat "$machine/boot" 2>/dev/null)" = "$(boot_id)" ] && return
  rm -rf "$machine"; mkdir -p "$machine"
  # The kubelet sets these.
  for key in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do
    echo "$key=$(sysctl -n "$key")"
  done >"$machine/sysctls"
  # A pod's init container may register qemu instead of us.
  [ -e "$misc/register" ] || touch "$machine/unmount-binfmt"
  [ -e "$misc/qemu-aarch64" ] || touch "$machine/unregister-qemu"
  boot_id >"$machine/boot"
}

setup_qemu() {
  [ "${BUILDFLEET_RIG_QEMU:-1}" = 1 ] || { say "qemu-aarch64 is left to the pods"; return; }
  QEMU=$deb/qemu-user-static/usr/bin/qemu-aarch64-static "$rig_source/register-qemu" >/dev/null
}

start_control_plane() {
  alive etcd || { mkdir -p "$run/etcd"; chmod 700 "$run/etcd"
    # What a crash of the machine would take with it is made anew anyway.
    start etcd "$deb/etcd-server/usr/bin/etcd" --unsafe-no-fsync --data-dir "$run/etcd" --listen-client-urls http://127.0.0.1:2379 \
      --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380; }
  alive apiserver || start apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 \
    --advertise-address="$address_amd64" --service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true \
    --cert-dir="$run/pki" --tls-cert-file="$run/pki/apiserver.crt" --tls-private-key-file="$run/pki/apiserver.key" \
    --client-ca-file="$run/pki/ca.crt" --authorization-mode=Node,RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$run/pki/sa.pub" \
    --service-account-signing-key-file="$run/pki/sa.key" \
    --kubelet-certificate-authority="$run/pki/ca.crt" --kubelet-client-certificate="$run/pki/apiserver-kubelet.crt" \
    --kubelet-client-key="$run/pki/apiserver-kubelet.key" --kubelet-preferred-address-types=InternalIP \
    --feature-gates=MutatingAdmissionPolicy=true --runtime-config=admissionregistration.k8s.io/v1beta1=true
  alive registry || { registry_config >"$run/registry.yaml"
    start registry "$deb/docker-registry/usr/bin/docker-registry" serve "$run/registry.yaml"; }
}

registry_config() {
  cat <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $run/registry}, delete: {enabled: true}}
http: {addr: "$registry"}
END
}

start_controllers() {
  # By default it limits itself to 20 requests a second, and its own start then takes 5 s.
  alive kcm || start kcm "$bin/kube-controller-manager" --kubeconfig="$run/kcm.kubeconfig" --leader-elect=false \
    --kube-api-qps=200 --kube-api-burst=400 \
    --service-account-private-key-file="$run/pki/sa.key" --root-ca-file="$run/pki/ca.crt" --use-service-account-credentials=true \
    --cluster-signing-cert-file="$run/pki/ca.crt" --cluster-signing-key-file="$run/pki/ca.key"
  alive scheduler || start scheduler "$bin/kube-scheduler" --kubeconfig="$run/scheduler.kubeconfig" --leader-elect=false
}

make_cgroups() { # make_cgroups NODE: the kubelet wants its root cgroup to exist, and two kubelets must not share one
  local path=$cgroup/$1 controller parent f
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$path"
    for parent in /sys/fs/cgroup "/sys/fs/cgroup/$cgroup"; do
      for f in $(<"$parent/cgroup.controllers"); do echo "+$f" >"$parent/cgroup.subtree_control" 2>/dev/null || true; done
    done
    return
  fi
  for controller in $(cgroup_hierarchies); do
    mkdir -p "$controller/$path"
    if [ -e "$controller/cpuset.cpus" ]; then   # version 1 starts these empty, and then no process can enter
      for f in cpuset.cpus cpuset.mems; do cat "$controller/$f" >"$controller/$cgroup/$f"; cat "$controller/$f" >"$controller/$path/$f"; done
    fi
  done
}

cgroup_hierarchies() { awk '$3 == "cgroup" {print $2}' /proc/mounts; }

containerd_config() { # containerd_config DIR
  cat <<END
version = 3
root = "$1/containerd"
state = "/run/containerd"
# Would make a directory in /opt.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "$1/containerd.sock"

[plugins."io.containerd.cri.v1.runtime"]
# Machines without CAP_SYS_RESOURCE cannot lower a score below their own.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$deb/containernetworking-plugins/usr/lib/cni"]
conf_dir = "$1/cni"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$image_pause"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "$1/certs.d"
END
}

cni_config() { # cni_config DIR SUBNET BRIDGE
  cat <<END
{"cniVersion": "1.0.0", "name": "buildfleet", "plugins": [
  {"type": "bridge", "bridge": "$3", "isGateway": true, "ipam": {"type": "host-local", "dataDir": "$1/ipam",
    "ranges": [[{"subnet": "$2"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
}

kubelet_config() { # kubelet_config ARCH DIR ADDRESS HEALTH-PORT
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $run/pki/ca.crt}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: $run/pki/kubelet-$1-server.crt
tlsPrivateKeyFile: $run/pki/kubelet-$1-server.key
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup/node-$1
containerRuntimeEndpoint: unix://$2/containerd.sock
failSwapOn: false
resolvConf: ""
maxPods: 60
# The machine belongs to others too: a full disk or a busy memory is no reason to evict the pods under test.
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%", imagefs.available: "0%", memory.available: "50Mi"}
address: $3
healthzPort: $4
END
}

start_node() { # start_node ARCH SUBNET BRIDGE: the node's namespaces and its containerd
  local subnet=$2 bridge=$3 node=node-$1 dir=$run/node-$1
  make_cgroups "$node"
  mkdir -p "$dir"/{cni,kubelet} "$dir/certs.d/$registry"
  if ! alive "$node"; then
    rm -f "$dir/ready"
    # If unshare is killed, the kernel kills the node's first process, and with it everything inside.
    start "$node" unshare --mount --pid --fork --kill-child "$rig_source/node.sh" "$dir"
  fi
  wait_for "$node" 10 test -e "$dir/ready"
  if ! alive "$node-containerd"; then
    rm -f "$dir/containerd.sock"
    containerd_config "$dir" >"$dir/containerd.toml"
    cni_config "$dir" "$subnet" "$bridge" >"$dir/cni/10-buildfleet.conflist"
    printf 'server = "http://%s"\n[host."http://%s"]\ncapabilities = ["pull", "resolve"]\n' "$registry" "$registry" >"$dir/certs.d/$registry/hosts.toml"
    start_in "$node" "$node-containerd" "$bin/containerd" -c "$dir/containerd.toml"
  fi
}

load_images() { # load_images NODE
  local dir=$run/$1 stamp
  wait_for "$1-containerd" 20 "$bin/ctr" -a "$dir/containerd.sock" version
  stamp=$(stat -c '%i %Y' "$image_archive")
  [ "$(cat "$dir/images" 2>/dev/null)" = "$stamp" ] && return
  "$bin/ctr" -a "$dir/containerd.sock" -n k8s.io images import "$image_archive" >>"$log/$1-images.log" 2>&1 ||
    { show_log "$1-images"; die "$1: images could not be loaded"; }
  echo "$stamp" >"$dir/images"
}

start_kubelet() { # start_kubelet ARCH ADDRESS HEALTH-PORT
  local dir=$run/node-$1
  alive "node-$1-kubelet" && return
  kubelet_config "$1" "$dir" "$2" "$3" >"$dir/kubelet/config.yaml"
  start_in "node-$1" "node-$1-kubelet" "$bin/kubelet" --config="$dir/kubelet/config.yaml" --kubeconfig="$run/kubelet-$1.kubeconfig" \
    --root-dir="$dir/kubelet/root" --cert-dir="$dir/kubelet/pki" --hostname-override="node-$1" --node-ip="$2"
}

# The status alone may be from before a crash; the second question goes through the API server to the kubelet itself.
node_ready() {
  [ "$(kube get node "node-$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status} {.metadata.labels.kubernetes\.io/arch}')" = "True $1" ] &&
    kube get --raw "/api/v1/nodes/node-$1/proxy/healthz"
}
apply_policy() { kube apply -f "$rig_source/arm64-node.yaml" &>"$log/policy.log" || { cat "$log/policy.log" >>"$log/apiserver.log"; return 1; }; }
account_ready() { kube get serviceaccount default; }   # pods cannot be made before it exists

all_alive() { local c; for c in "${components[@]}"; do alive "$c" || return 1; done; }
is_up() { [ -e "$run/up" ] && has_netns && all_alive && kube get --raw /readyz >/dev/null 2>&1; }

check_machine() {
  local path
  [ "$(uname -m)" = x86_64 ] || die "the rig runs on x86-64 only: its second node poses as arm64"
  for path in "$rig_cache" "$rig_source"; do
    case $(realpath "$path")/ in /run/* | /var/run/* | /var/lib/* | /var/log/*)
      die "$path: each node has its own /run, /var/lib and /var/log, so the rig cannot live there: set BUILDFLEET_RIG, or move the checkout" ;;
    esac
  done
  # A containerd socket is the longest path that has to fit into the 107 bytes of a unix socket's address.
  [ ${#run} -le 80 ] || die "$run is too long a path for unix sockets: set BUILDFLEET_RIG to a shorter one"
}

cluster_up() {
  local began c; began=$(now_ms)
  need_root up
  if is_up; then say "'$rig_name' is up already"; return; fi
  lock "up-$rig_name" 120
  if is_up; then say "'$rig_name' is up already"; return; fi
  check_machine
  for c in "${rig_components[@]}"; do [ -f "$rig_cache/stamp/$c" ] || die "up: '$c' is not built yet: run scripts/cluster build"; done
  [ -f "$image_archive" ] || die "up: no images yet: run scripts/cluster images"
  need_packages iproute2 iptables openssl procps util-linux
  # Half of a cluster without its network, or from before a reboot, is not worth repairing.
  if [ -d "$run" ] && { ! has_netns || [ "$(cat "$run/boot" 2>/dev/null)" != "$(boot_id)" ]; }; then
    say "clearing what an earlier '$rig_name' left"; tear_down
  fi
  mkdir -p "$log" "$run/docker/cli-plugins"; boot_id >"$run/boot"
  ln -sfn "$bin/docker-buildx" "$run/docker/cli-plugins/docker-buildx"
  note_machine
  doing="network"; step "network" make_network
  doing="certificates"; step "certificates" make_pki
  doing="qemu"; step "qemu-aarch64" setup_qemu
  doing="start"
  start_control_plane
  start_node amd64 10.244.0.0/24 cni0
  start_node arm64 10.244.1.0/24 cni1
  step "images in node-amd64" load_images node-amd64
  step "images in node-arm64" load_images node-arm64
  step "API server" wait_for apiserver 60 kube get --raw /readyz
  start_controllers
  # The policy has to be at work before a kubelet says what it is. A server that calls itself ready may still refuse at first.
  step "arm64 policy" wait_for apiserver 20 apply_policy
  start_kubelet amd64 "$address_amd64" 10248
  start_kubelet arm64 "$address_arm64" 10258
  step "node-amd64" wait_for node-amd64-kubelet 60 node_ready amd64
  step "node-arm64" wait_for node-arm64-kubelet 60 node_ready arm64
  step "default account" wait_for kcm 30 account_ready
  for c in "${components[@]}"; do alive "$c" || { show_log "$c"; die "$c died"; }; done
  touch "$run/up"
  doing=
  say "'$rig_name' is up ($(seconds $(($(now_ms) - began)))): scripts/cluster sh kubectl get nodes"
  exec 9>&-
}
