# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # scripts/cluster sources all parts; they share their variables
# What every part of scripts/cluster shares: where things are, how progress and errors are told,
# how a daemon is started, recognised again and waited for. Sourced, never run.

rig_source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rig_cache=${BUILDFLEET_RIG:-${XDG_CACHE_HOME:-$HOME/.cache}/buildfleet/rig}
rig_name=${BUILDFLEET_RIG_NAME:-rig}
[[ $rig_name =~ ^[a-z0-9-]{1,20}$ ]] || { echo "cluster: BUILDFLEET_RIG_NAME must be a short lower-case word, not '$rig_name'" >&2; exit 2; }

bin=$rig_cache/bin
deb=$rig_cache/deb
run=$rig_cache/run/$rig_name
log=$run/log
machine=$rig_cache/run/.machine   # what the machine was like before; no cluster can have this name
netns=$run/netns
cgroup=buildfleet-$rig_name
image_archive=$rig_cache/images/images.tar

# Addresses live inside the network namespace, so several rigs can use the same ones.
address_amd64=10.99.0.1
address_arm64=10.99.0.2
registry=$address_amd64:5000

say() { printf 'cluster: %s\n' "$*" >&2; }
die() { say "$*"; doing=; exit 1; }

doing=
on_exit() { # on_exit CODE COMMAND: errexit says nothing of its own
  [ "$1" = 0 ] || [ -z "$doing" ] || say "$doing failed (exit code $1) at: $2"
}
trap 'on_exit "$?" "${FUNCNAME[0]-}: $BASH_COMMAND"' EXIT

now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }
seconds() { printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# step TEXT CMD...: runs CMD and tells how long it took.
step() {
  local text=$1 began; began=$(now_ms); shift
  "$@"
  say "$text ($(seconds $(($(now_ms) - began))))"
}

need_root() { [ "$(id -u)" = 0 ] || die "'$1' needs root: it makes namespaces, mounts and cgroups"; }

# lock FILE-NAME SECONDS: one writer at a time. The lock is on fd 9, which every daemon must close, or it would hold the lock for ever.
lock() {
  mkdir -p "$rig_cache"
  exec 9>"$rig_cache/$1.lock"
  flock -n 9 && return
  say "waiting for another '$1' to end"
  flock -w "$2" 9 || die "another scripts/cluster still holds $rig_cache/$1.lock after $2 s"
}

# After a reboot the file is there, but no namespace is mounted on it.
has_netns() { [ "$(stat -f -c %T "$netns" 2>/dev/null)" = nsfs ]; }

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# The start time makes a pid unmistakable: numbers are reused, and after a reboot soon.
start_time() { # start_time PID: fails if there is no such process, or only its zombie
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"   # the name before may have spaces
  [ "${fields[0]}" != Z ] && echo "${fields[19]}"
}

remember() { echo "$2 $(start_time "$2") $(boot_id)" >"$run/$1.pid"; }

# pid_of NAME: the pid of a component that runs; fails if it does not.
pid_of() {
  local pid time boot
  read -r pid time boot 2>/dev/null <"$run/$1.pid" || return 1
  [ "$boot" = "$(boot_id)" ] && [ "$(start_time "$pid")" = "$time" ] && echo "$pid"
}
alive() { pid_of "$1" >/dev/null; }

# wait_for COMPONENT SECONDS CMD...: until CMD succeeds. Gives up early if the component has died, and shows the end of its log.
wait_for() {
  local name=$1 limit=$2 until; shift 2
  until=$(($(now_ms) + limit * 1000))
  while ! "$@" >/dev/null 2>&1; do
    if ! alive "$name"; then show_log "$name"; die "$name died"; fi
    if [ "$(now_ms)" -gt "$until" ]; then show_log "$name"; die "$name: not ready after $limit s: $*"; fi
    sleep 0.1
  done
}

show_log() { say "end of $log/$1.log:"; tail -n 25 "$log/$1.log" >&2 || true; }

# stop_pid PID TIME SECONDS: asks, waits, insists.
stop_pid() {
  local pid=$1 time=$2 until; until=$(($(now_ms) + $3 * 1000))
  kill -TERM "$pid" 2>/dev/null || return 0
  kill -CONT "$pid" 2>/dev/null || true
  while [ "$(start_time "$pid")" = "$time" ]; do
    if [ "$(now_ms)" -gt "$until" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    sleep 0.05
  done
}
