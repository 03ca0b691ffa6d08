# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # scripts/cluster sources all parts; they share their variables
# `scripts/cluster down`: ends what `up` started and takes back what it changed. It goes by what it finds, not by what should be
# there, so it also cleans up after a crash, after a reboot, and after itself.

rig_pids() { # "NAME PID TIME" of each recorded process that is still the one that was started
  local f name pid
  for f in "$run"/*.pid; do
    [ -e "$f" ] || continue
    name=${f##*/}; name=${name%.pid}
    pid=$(pid_of "$name") && echo "$name $pid $(start_time "$pid")"
  done
  return 0
}

stop_processes() {
  local name pid time
  # A node's first process takes all its pods, containerd and kubelet along; there is nothing to save in them.
  while read -r name pid time; do
    case $name in node-*-*) ;; node-*) stop_node "$name" "$pid" "$time" ;; esac
  done < <(rig_pids)
  while read -r name pid time; do
    case $name in apiserver | kcm | scheduler | registry) kill -TERM "$pid" 2>/dev/null || true ;; esac
  done < <(rig_pids)
  while read -r name pid time; do stop_pid "$pid" "$time" 5; done < <(rig_pids)
}

stop_node() { # stop_node NAME PID TIME: gone only when its first process is, and that waits for all the others
  local inner inner_time
  inner=$(pgrep -P "$2" || true)
  inner_time=$(start_time "${inner:-0}" || true)
  kill -KILL "$2" 2>/dev/null || true
  if [ -n "$inner" ]; then stop_gone "$1" "$inner" "$inner_time"; fi
  stop_gone "$1" "$2" "$3"
}

stop_gone() {
  local until; until=$(($(now_ms) + 20000))
  while [ "$(start_time "$2")" = "$3" ]; do
    kill -KILL "$2" 2>/dev/null || true
    [ "$(now_ms)" -lt "$until" ] || die "$1: process $2 does not end"
    sleep 0.05
  done
}

remove_cgroups() {
  local root dir until; until=$(($(now_ms) + 10000))
  while read -r root; do
    while [ -d "$root/$cgroup" ]; do
      # A dying process still counts for a moment.
      find "$root/$cgroup" -depth -type d 2>/dev/null | while read -r dir; do rmdir "$dir" 2>/dev/null || true; done
      [ -d "$root/$cgroup" ] || break
      [ "$(now_ms)" -lt "$until" ] || { say "cgroup $root/$cgroup is still in use"; break; }
      sleep 0.1
    done
  done < <(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/mounts)
}

restore_machine() {
  local misc=/proc/sys/fs/binfmt_misc setting others
  others=$(find "$rig_cache/run" -mindepth 1 -maxdepth 1 ! -name .machine 2>/dev/null || true)
  if [ -n "$others" ] || [ ! -d "$machine" ]; then return; fi
  if [ "$(cat "$machine/boot" 2>/dev/null)" = "$(boot_id)" ]; then
    if [ -e "$machine/unregister-qemu" ] && [ -e "$misc/qemu-aarch64" ]; then echo -1 >"$misc/qemu-aarch64"; fi
    if [ -e "$machine/unmount-binfmt" ] && mountpoint -q "$misc"; then umount "$misc" || true; fi
    while read -r setting; do sysctl -qw "$setting" || true; done <"$machine/sysctls"
  fi
  rm -rf "$machine"
  rmdir "$rig_cache/run"
}

tear_down() {
  local left point
  stop_processes
  remove_cgroups
  if has_netns; then
    # find fails when a process ends under its eyes.
    left=$({ find /proc/[0-9]*/ns/net -maxdepth 0 -lname "net:\[$(stat -L -c %i "$netns")\]" 2>/dev/null || true; } | cut -d/ -f3 | tr '\n' ' ')
    [ -z "$left" ] || say "processes that the rig did not start are still in its network namespace: $left"
  fi
  if [ -d "$run" ]; then
    awk -v r="$(realpath "$run")/" 'index($2, r) == 1 {print $2}' /proc/mounts | sort -r | while read -r point; do umount "$point"; done
    rm -rf --one-file-system "$run"
  fi
  restore_machine
}

cluster_down() {
  local began; began=$(now_ms)
  need_root down
  lock "up-$rig_name" 120
  if [ ! -d "$run" ]; then
    restore_machine
    say "'$rig_name' is not up"
  else
    doing="down"; tear_down; doing=
    say "'$rig_name' is down ($(seconds $(($(now_ms) - began))))"
  fi
  exec 9>&-
}
