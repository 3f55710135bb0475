"""Keys, certificates and kubeconfigs of one cluster, made by openssl."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.cluster.errors import ClusterError
from support.cluster.plan import API_HOST, API_PORT, API_SERVICE, Plan

_DAYS = "365"
_CLIENT = "extendedKeyUsage=clientAuth"
_API_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_API_ADDRESSES = ("127.0.0.1", API_HOST, API_SERVICE)


class Keys:
    """A folder of PEM files: <name>.crt, <name>.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, plan: Plan) -> None:
        """Make all that the cluster needs.

        Raises:
            ClusterError: openssl is missing or refuses.
        """
        if shutil.which("openssl") is None:
            raise ClusterError("openssl is missing: apt-get install openssl")
        self.folder.mkdir(mode=0o700)
        # Without the distribution's own file: its extensions would make every certificate a CA.
        (self.folder / "openssl.cnf").write_text("[req]\ndistinguished_name=dn\n[dn]\n")
        self._certificate(
            "ca", "/CN=test-cluster-ca",
            "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        names = ",".join([f"DNS:{one}" for one in _API_NAMES] + [f"IP:{a}" for a in _API_ADDRESSES])
        self.issue("apiserver", "/CN=kube-apiserver", f"subjectAltName={names}")
        self.issue("admin", "/O=system:masters/CN=admin", _CLIENT)
        self.issue("kube-controller-manager", "/CN=system:kube-controller-manager", _CLIENT)
        self.issue("kube-scheduler", "/CN=system:kube-scheduler", _CLIENT)
        self.issue("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", _CLIENT)
        for node in plan.nodes:
            self.issue(
                node.name, f"/O=system:nodes/CN=system:node:{node.name}",
                "extendedKeyUsage=clientAuth,serverAuth",
                f"subjectAltName=DNS:{node.name},IP:{node.address}",
            )  # fmt: skip
        self._openssl("genpkey", "-algorithm", "EC", *_CURVE, "-out", "sa.key")
        self._openssl("pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def issue(self, name: str, subject: str, *extensions: str) -> None:
        """Make <name>.key and <name>.crt, signed by the cluster's CA."""
        self._certificate(name, subject, *extensions, signer=("-CA", "ca.crt", "-CAkey", "ca.key"))

    def kubeconfig(self, name: str, server: str = f"https://{API_HOST}:{API_PORT}") -> str:
        """Return a kubeconfig that holds the keys of *name* itself."""
        return kubeconfig(
            server,
            authority=self._encoded("ca.crt"),
            user={
                "client-certificate-data": self._encoded(f"{name}.crt"),
                "client-key-data": self._encoded(f"{name}.key"),
            },
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _encoded(self, name: str) -> str:
        return base64.b64encode((self.folder / name).read_bytes()).decode()

    def _certificate(
        self, name: str, subject: str, *extensions: str, signer: tuple[str, ...] = ()
    ) -> None:
        added = [word for extension in extensions for word in ("-addext", extension)]
        self._openssl(
            "req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", *_CURVE, "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", subject, "-days", _DAYS,
            *added, *signer,
        )  # fmt: skip

    def _openssl(self, *words: str) -> None:
        made = subprocess.run(
            ["openssl", *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise ClusterError(f"openssl {words[0]} fails (3.0 or newer is needed): {made.stderr}")


_CURVE = ("-pkeyopt", "ec_paramgen_curve:P-256")


def kubeconfig(server: str, *, authority: str, user: Mapping[str, Any]) -> str:
    """Return a kubeconfig of one user; *authority* is base64."""
    cluster = {"server": server, "certificate-authority-data": authority}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "penstock", "cluster": cluster}],
            "users": [{"name": "admin", "user": dict(user)}],
            "contexts": [{"name": "penstock", "context": {"cluster": "penstock", "user": "admin"}}],
            "current-context": "penstock",
        },
        indent=1,
    )
