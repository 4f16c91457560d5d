#!/bin/bash
# A real systemd as process 1 of namespaces of its own, on a throw-away overlay over the root of this machine, with this machine's
# network. Needs root, Linux 5.x with overlayfs and cgroup v2, util-linux and systemd.
#   systemd.sh FOLDER    boots it, writes its pid to FOLDER/pid, and stays until it is ended or stdin is closed; then nothing is left
# LAYER=FOLDER lays files over those of the machine: another version of systemd. NETWORK=own: a network of its own, with lo alone.
set -euo pipefail
if [ "${1:-}" != --init ]; then
  dir=$(readlink -f "$1")
  name=reload-self-$$
  mkdir -p "$dir/cgroup" "$dir/root"
  # In a mount namespace of its own, so that no mount can outlive it.
  [ "${2:-}" = --mounted ] || exec unshare --mount --propagation private "$0" "$dir" --mounted
  mount -t cgroup2 cgroup2 "$dir/cgroup"
  group=$dir/cgroup/$name
  mkdir "$group"
  exec 3<&0
  # A cgroup namespace begins where the process is that makes it.
  (echo $BASHPID > "$group/cgroup.procs"
    exec unshare --fork --kill-child=KILL --pid --mount --cgroup --uts --ipc ${NETWORK:+--net} "$0" --init "$dir") &
  outer=$!
  cleanup() {
    kill -KILL $outer 2>/dev/null || true
    wait $outer 2>/dev/null || true
    for _ in $(seq 100); do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$group" ] || break
      sleep 0.05
    done
  }
  trap cleanup EXIT
  trap 'exit 0' TERM INT
  for _ in $(seq 250); do
    kill -0 $outer 2>/dev/null || exit 1
    pid=; read -r pid _ < "/proc/$outer/task/$outer/children" || true # without a line end
    if [ -n "$pid" ] && [ -S "/proc/$pid/root/run/systemd/private" ]; then
      echo "$pid" > "$dir/pid.new"
      mv "$dir/pid.new" "$dir/pid"
      break
    fi
    sleep 0.02
  done
  cat <&3 > /dev/null & # stdin: whoever started this is gone when it ends
  wait $! || true
  exit 0
fi

dir=$2
root=$dir/root/merged
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$dir/root"
mkdir "$dir/root/upper" "$dir/root/work" "$root"
mkdir "$dir/root/layer" # a copy: layers must not be parts of each other
[ -z "${LAYER:-}" ] || cp -a "$LAYER/." "$dir/root/layer"
mount -t overlay overlay -o "lowerdir=$dir/root/layer:/,upperdir=$dir/root/upper,workdir=$dir/root/work" "$root"
# At its start systemd empties /tmp, where this repository may be, and the units hide other places from their services.
mkdir -p "$root/opt/reload-self"
mount --bind "$(cd "$(dirname "$0")/../.." && pwd)" "$root/opt/reload-self"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r device major minor <<< "$device"
  mknod -m 666 "$root/dev/$device" c "$major" "$minor"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
# Of all that is enabled on this machine nothing is started.
units=$root/run/systemd/system
mkdir -p "$units"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' > "$units/sandbox.target"
for unit in tmp.mount systemd-{udevd,udev-trigger,timesyncd,pstore,modules-load,sysctl,remount-fs,hwdb-update,random-seed,binfmt,machine-id-commit,journal-catalog-update,firstboot,networkd,resolved}.service \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-{debug,tracing,config}.mount sys-fs-fuse-connections.mount \
  proc-sys-fs-binfmt_misc.automount ldconfig.service apparmor.service keyboard-setup.service timers.target sockets.target paths.target; do
  ln -s /dev/null "$units/$unit"
done
mkdir -p "$root/.old"
cd "$root"
pivot_root . .old
umount -l /.old
# `container`: it then leaves the kernel's settings, the clock and the machine alone.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 container=sandbox \
  /lib/systemd/systemd --system --unit=sandbox.target --show-status=no
