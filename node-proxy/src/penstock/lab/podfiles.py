"""The files of /etc that differ from pod to pod: resolv.conf, hosts, hostname, nsswitch.conf."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from penstock.lab.cluster import PodPlan
from penstock.lab.launch import Mount
from penstock.runtime.files import replace_file

CLUSTER_DOMAIN = "cluster.local"
_HOSTS_LINE = re.compile(r"^hosts:.*$", re.MULTILINE)


class PodFiles:
    """Those files of all pods of an instance, below `<run>/etc/<uid>`."""

    def __init__(self, root: Path, nameserver: str, host_env: Mapping[str, str]) -> None:
        """Use the run folder *root*.

        Args:
            root: the run folder.
            nameserver: address of the cluster DNS as pods use it.
            host_env: environment variables that every container gets.
        """
        self._folder = root / "etc"
        self.scratch = root / "scratch"
        self._nameserver = nameserver
        self._host_env = dict(host_env)

    def prepare(self) -> None:
        """Make the folders and read how this machine looks names up."""
        self._folder.mkdir(mode=0o711, exist_ok=True)
        self.scratch.mkdir(mode=0o711, exist_ok=True)
        given = Path("/etc/nsswitch.conf")
        text = given.read_text(encoding="utf-8") if given.exists() else "hosts: files dns\n"
        replace_file(self._folder / "nsswitch.conf", nsswitch(text).encode(), mode=0o644)

    def write(self, plan: PodPlan) -> None:
        """Write the files of a pod."""
        folder = self._folder / plan.uid
        folder.mkdir(mode=0o755, exist_ok=True)
        for name, text in (
            ("resolv.conf", resolv_conf(plan, self._nameserver)),
            ("hosts", hosts(plan)),
            ("hostname", f"{_hostname(plan)}\n"),
        ):
            replace_file(folder / name, text.encode(), mode=0o644)

    def mounts(self, plan: PodPlan) -> list[Mount]:
        """Return where the files appear; a pod may change its hosts file, not the others."""
        own = self._folder / plan.uid
        sources = {name: own / name for name in ("resolv.conf", "hosts", "hostname")}
        sources["nsswitch.conf"] = self._folder / "nsswitch.conf"
        return [
            Mount(source=str(path), target=f"/etc/{name}", read_only=name != "hosts")
            for name, path in sources.items()
        ]

    def base_environment(self, plan: PodPlan) -> dict[str, str]:
        """Return the variables that every container of a pod has."""
        return self._host_env | {"HOSTNAME": _hostname(plan)}

    def remove(self, uid: str) -> None:
        """Remove the files of a pod."""
        shutil.rmtree(self._folder / uid, ignore_errors=True)


def resolv_conf(plan: PodPlan, nameserver: str) -> str:
    """Return the resolver's configuration. Source: Kubernetes, dnsPolicy ClusterFirst."""
    namespace = plan.pod.metadata.namespace
    search = f"{namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}"
    return f"search {search}\nnameserver {nameserver}\noptions ndots:5\n"


def hosts(plan: PodPlan) -> str:
    """Return the hosts file: localhost and the pod itself."""
    spec, namespace = plan.pod.spec, plan.pod.metadata.namespace
    names = _hostname(plan)
    if spec.subdomain:
        names = f"{names}.{spec.subdomain}.{namespace}.svc.{CLUSTER_DOMAIN} {names}"
    lines = [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        f"{plan.addresses.ipv4} {names}",
        f"{plan.addresses.ipv6} {names}",
    ]
    return "\n".join(lines) + "\n"


def nsswitch(text: str) -> str:
    """Return the machine's nsswitch.conf with host names from files and DNS only."""
    line = "hosts: files dns"
    return _HOSTS_LINE.sub(line, text) if _HOSTS_LINE.search(text) else f"{text}{line}\n"


def _hostname(plan: PodPlan) -> str:
    return plan.pod.spec.hostname or plan.pod.metadata.name
