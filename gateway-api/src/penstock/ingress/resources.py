"""Ingress and IngressClass, as objects.

Source: networking.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta
from typing_extensions import override

from penstock.core.objects import ApiStruct, Object
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Problem

GROUP = "networking.k8s.io"
API_VERSIONS = (f"{GROUP}/v1",)
CONTROLLER_NAME = "penstock.dev/ingress-controller"
"""spec.controller of IngressClasses that are ours."""
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
Host = Annotated[str, Meta(max_length=253, pattern=rf"^((\*\.)?{_LABEL}(\.{_LABEL})*)?\Z")]


class ServiceBackendPort(ApiStruct, frozen=True, kw_only=True):
    """A port of a Service, by its name or by its number."""

    name: str = ""
    number: Annotated[int, Meta(ge=0, le=65535)] = 0

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the API server would refuse."""
        if bool(self.name) == bool(self.number):
            yield Problem("", "must have either a name or a number")


class IngressServiceBackend(ApiStruct, frozen=True, kw_only=True):
    """A Service in the namespace of the Ingress."""

    name: str
    port: ServiceBackendPort


class ResourceReference(ApiStruct, frozen=True, kw_only=True):
    """Something else than a Service, which Penstock does not serve."""

    api_group: str = ""
    kind: str
    name: str


class IngressBackend(ApiStruct, frozen=True, kw_only=True):
    """Where requests go."""

    service: IngressServiceBackend | None = None
    resource: ResourceReference | None = None

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the API server would refuse."""
        if (self.service is None) == (self.resource is None):
            yield Problem("", "must have either a service or a resource")


class HTTPIngressPath(ApiStruct, frozen=True, kw_only=True):
    """A path and where its requests go."""

    path: str = ""
    path_type: Literal["Exact", "Prefix", "ImplementationSpecific"]
    backend: IngressBackend

    @override
    def checks(self) -> Iterator[Problem]:
        """Yield what the API server would refuse."""
        if self.path_type != "ImplementationSpecific" and not self.path.startswith("/"):
            yield Problem("path", "must start with '/'")


class HTTPIngressRuleValue(ApiStruct, frozen=True, kw_only=True):
    """The paths of a host."""

    paths: tuple[HTTPIngressPath, ...]


class IngressRule(ApiStruct, frozen=True, kw_only=True):
    """A host and its paths; "" is every host."""

    host: Host = ""
    http: HTTPIngressRuleValue | None = None


class IngressTLS(ApiStruct, frozen=True, kw_only=True):
    """A certificate and for which hosts it is; without hosts for all."""

    hosts: tuple[Host, ...] = ()
    secret_name: str = ""


class IngressSpec(ApiStruct, frozen=True, kw_only=True):
    """Rules for requests from outside."""

    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] = ()
    rules: tuple[IngressRule, ...] = ()


class Ingress(Object, frozen=True, kw_only=True):
    """Rules for requests from outside to Services of its namespace."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "Ingress"

    spec: IngressSpec = IngressSpec()
    status: Any = None
    """As it was read, whoever wrote it."""

    @property
    def assigned(self) -> tuple[str, ...]:
        """Return the addresses that the status says it is reached by."""
        status: Any = self.status if isinstance(self.status, dict) else {}
        balancer: Any = status.get("loadBalancer")
        entries: Any = balancer.get("ingress") if isinstance(balancer, dict) else None
        found = entries if isinstance(entries, list) else []
        return tuple(str(one["ip"]) for one in found if isinstance(one, dict) and one.get("ip"))

    @property
    def class_name(self) -> str | None:
        """Return the name of its class; None leaves it to the default class."""
        named = self.spec.ingress_class_name
        return self.metadata.annotations.get(CLASS_ANNOTATION) if named is None else named

    @property
    def named_ports(self) -> frozenset[NamespacedName]:
        """Return the Services of which it names a port by its name."""
        return frozenset(
            NamespacedName(self.metadata.namespace, one.service.name)
            for _, one in placed_backends(self)
            if one.service is not None and one.service.port.name
        )


def placed_backends(ingress: Ingress) -> Iterator[tuple[str, IngressBackend]]:
    """Yield all backends, each with the path of what it belongs to."""
    for index, rule in enumerate(ingress.spec.rules):
        for number, path in enumerate(rule.http.paths if rule.http is not None else ()):
            yield f"spec.rules[{index}].http.paths[{number}]", path.backend
    if ingress.spec.default_backend is not None:
        yield "spec.defaultBackend", ingress.spec.default_backend


class IngressClassSpec(ApiStruct, frozen=True, kw_only=True):
    """Who serves a class."""

    known_unused: ClassVar[frozenset[str]] = frozenset({"parameters"})

    controller: str = ""


class IngressClass(Object, frozen=True, kw_only=True):
    """A class of Ingresses."""

    api_versions: ClassVar[tuple[str, ...]] = API_VERSIONS
    kind: ClassVar[str] = "IngressClass"
    namespaced: ClassVar[bool] = False

    spec: IngressClassSpec = IngressClassSpec()

    @property
    def is_ours(self) -> bool:
        """Return whether Penstock serves it."""
        return self.spec.controller == CONTROLLER_NAME

    @property
    def is_default(self) -> bool:
        """Return whether Ingresses that name no class are its own."""
        return self.metadata.annotations.get(DEFAULT_ANNOTATION) == "true"


KINDS: tuple[type[Object], ...] = (Ingress, IngressClass)


def class_of(ingress: Ingress, classes: dict[str, IngressClass]) -> IngressClass | None:
    """Return the class of *ingress* if it is ours, given all classes by name."""
    name = ingress.class_name
    if name is not None:
        found = classes.get(name)
    else:
        defaults = sorted((one for one in classes.values() if one.is_default), key=lambda c: c.key)
        found = defaults[0] if defaults else None
    return found if found is not None and found.is_ours else None
