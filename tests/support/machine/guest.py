"""What the machine is made of: Debian packages, and the few files that make it run a command. Pure.

A machine has one folder in common with its host, the share. What it runs is in there, so an image
need not be made anew for another command.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

SUITE = "bookworm"
KERNEL_PACKAGE = "linux-image-amd64"
"""The kernel that Debian 12 installs by itself: 6.1."""
PACKAGES: tuple[str, ...] = (
    KERNEL_PACKAGE, "initramfs-tools", "systemd", "systemd-sysv", "dbus", "udev", "kmod",
    "ca-certificates", "curl", "git", "iproute2", "make", "procps", "python3", "python3-venv",
    "clang", "libbpf1", "libbpf-dev", "linux-libc-dev", "openssl", "runc", "util-linux",
)  # fmt: skip
"""The last line and Python are what `deploy/setup/system-packages cluster` asks for."""
IDLE_UNITS: tuple[str, ...] = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "fstrim.timer",
)  # fmt: skip
"""What would do something of its own while tests run."""

CHECKOUT = "/srv/penstock"
SHARE, CACHE = "share", "cache"
"""Tags of the folders of the host."""
OUTPUT, STATUS, JOURNAL, COMMIT, RUN = "output", "status", "journal", "commit.bundle", "run"
"""Files in the share."""
_MOUNT = "trans=virtio,version=9p2000.L,msize=512000"

UNIT = "penstock-run.service"
FILES: Mapping[str, str] = {
    "etc/hostname": "machine\n",
    "etc/hosts": "127.0.0.1 localhost machine\n::1 localhost\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 0\n",
    "etc/modules-load.d/share.conf": "9pnet_virtio\noverlay\n",
    "etc/systemd/network/10-host.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n",
    f"etc/systemd/system/{UNIT}": f"""[Unit]
Description=What this machine was started for
After=multi-user.target network-online.target
Wants=network-online.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
TasksMax=infinity
Environment=HOME=/root LANG=C.UTF-8
ExecStartPre=/bin/mkdir -p /srv/{SHARE}
ExecStartPre=/bin/mount -t 9p -o {_MOUNT} {SHARE} /srv/{SHARE}
ExecStart=/bin/bash /srv/{SHARE}/{RUN}
ExecStopPost=/bin/sh -c 'journalctl -b > /srv/{SHARE}/{JOURNAL}; systemctl --no-block poweroff'
[Install]
WantedBy=default.target
""",
}
RESOLVER = "nameserver 10.0.2.3\n"
"""qemu's, in the network that it makes for the machine."""


def script(words: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """Return what the machine runs: the host's commit, the host's cache, then *words* in it."""
    exports = "".join(f"export {key}={shlex.quote(one)}\n" for key, one in environment.items())
    return f"""exec > /srv/{SHARE}/{OUTPUT} 2>&1
trap 'echo $? > /srv/{SHARE}/{STATUS}' EXIT
set -e
mkdir -p /srv/{CACHE} /var/cached/upper /var/cached/work "$HOME/.cache/penstock"
mount -t 9p -o {_MOUNT},ro,cache=loose {CACHE} /srv/{CACHE}
mount -t overlay overlay "$HOME/.cache/penstock" \\
    -o lowerdir=/srv/{CACHE},upperdir=/var/cached/upper,workdir=/var/cached/work
cd {CHECKOUT}
git fetch -q /srv/{SHARE}/{COMMIT} HEAD
git checkout -q -f FETCH_HEAD
echo "machine: $(uname -rv), $(stat -fc %T /sys/fs/cgroup) at /sys/fs/cgroup, \\
$(cat /proc/1/comm) is process 1, up for $(cut -d. -f1 /proc/uptime) s"
{exports}{shlex.join(words)}
"""
