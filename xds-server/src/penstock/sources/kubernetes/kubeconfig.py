"""Access from a kubeconfig file, or from what a pod is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from penstock.sources.kubernetes.access import (
    Access,
    AccessError,
    ExecPlugin,
    Pem,
    decode_base64,
)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_T = TypeVar("_T", bound=msgspec.Struct)


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _Variable(msgspec.Struct, frozen=True):
    name: str
    value: str


class _Exec(msgspec.Struct, frozen=True, rename="camel"):
    command: str
    args: tuple[str, ...] | None = None
    env: tuple[_Variable, ...] | None = None
    api_version: str = "client.authentication.k8s.io/v1"
    install_hint: str = ""


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    exec: _Exec | None = None
    auth_provider: Any = None


class _Context(msgspec.Struct, frozen=True):
    cluster: str
    user: str = ""


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """Return the access of a pod's service account; its token is read again each minute.

    Raises:
        AccessError: this is no pod, or it has no service account token.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise AccessError(
            "this is no pod with a service account: KUBERNETES_SERVICE_HOST or the token is"
            " missing; outside of a cluster, name a kubeconfig"
        )
    name = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{name}:{port}",
        authority=Pem(folder / "ca.crt"),
        token_file=folder / "token",
    )


def own_namespace(folder: Path = SERVICE_ACCOUNT) -> str:
    """Return the namespace of the pod that this is, "" if it is none."""
    try:
        return (folder / "namespace").read_text().strip()
    except OSError:
        return ""


def from_kubeconfig(path: Path, context: str = "") -> Access:
    """Return the access that a kubeconfig file describes.

    Args:
        path: the file; relative paths in it are relative to its folder.
        context: name of the context, "" for the current one.

    Raises:
        AccessError: the file, or something in it, is missing or not usable.
    """
    config = _load(path)
    name = context or str(config.get("current-context") or "")
    if not name:
        raise AccessError(f"{path}: there is no current-context; name a context")
    chosen = _entry(config, path, "context", name, _Context)
    cluster = _entry(config, path, "cluster", chosen.cluster, _Cluster)
    user = _entry(config, path, "user", chosen.user, _User) if chosen.user else _User()
    if cluster.proxy_url:
        raise AccessError(f"{path}: proxy-url of cluster {chosen.cluster} is not supported")
    if user.auth_provider is not None:
        raise AccessError(
            f"{path}: auth-provider of user {chosen.user} is gone from Kubernetes; use exec"
        )
    return _access(path, cluster, user)


def _access(path: Path, cluster: _Cluster, user: _User) -> Access:
    def pem(file: str, content: str, what: str) -> Pem:
        if content:
            return Pem(content=decode_base64(content, f"{path}: {what}"))
        return Pem(path.parent / file) if file else Pem()

    return Access(
        server=cluster.server.rstrip("/"),
        authority=pem(
            cluster.certificate_authority,
            cluster.certificate_authority_data,
            "certificate-authority-data",
        ),
        server_name=cluster.tls_server_name,
        insecure=cluster.insecure_skip_tls_verify,
        certificate=pem(
            user.client_certificate, user.client_certificate_data, "client-certificate-data"
        ),
        key=pem(user.client_key, user.client_key_data, "client-key-data"),
        token=user.token,
        token_file=path.parent / user.token_file if user.token_file else None,
        user=user.username,
        password=user.password,
        plugin=None if user.exec is None else _plugin(path, user.exec),
    )


def _plugin(path: Path, given: _Exec) -> ExecPlugin:
    command = given.command
    if "/" in command:
        command = str(path.parent / command)
    return ExecPlugin(
        command=command,
        args=given.args or (),
        environment=tuple((one.name, one.value) for one in given.env or ()),
        api_version=given.api_version,
        install_hint=given.install_hint.strip(),
    )


def _load(path: Path) -> Mapping[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as error:
        raise AccessError(f"the kubeconfig cannot be read: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AccessError(f"{path} is not YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise AccessError(f"{path} is no kubeconfig, which is a mapping")
    return loaded


def _entry(config: Mapping[str, Any], path: Path, what: str, name: str, wanted: type[_T]) -> _T:
    """Return one entry of `clusters`, `users` or `contexts`."""
    entries = config.get(f"{what}s")
    for one in entries if isinstance(entries, list) else []:
        if isinstance(one, dict) and one.get("name") == name:
            try:
                return msgspec.convert(one.get(what) or {}, wanted)
            except msgspec.ValidationError as error:
                raise AccessError(f"{path}: {what} {name}: {error}") from error
    raise AccessError(f"{path}: there is no {what} named {name}")
