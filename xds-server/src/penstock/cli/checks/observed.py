"""What an API server says, read once, for checks and dumps."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from penstock.meta.errors import PenstockError
from penstock.meta.names import NamespacedName
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.connection import Answer, ApiServer, Call, UnreachableError
from penstock.sources.kubernetes.kubeconfig import from_kubeconfig, in_cluster

ANSWER_SECONDS = 20.0
_TOGETHER = 8
_WORKLOADS = ("penstock-controller", "penstock-agent", "penstock-envoy")
Json = dict[str, Any]


class Listed(msgspec.Struct, frozen=True):
    """The objects of one kind, or why they are not known."""

    items: tuple[Json, ...] = ()
    refused: str = ""
    """"" if `items` is all there is."""
    absent: bool = False
    """The server does not know the kind."""

    def of(self, namespace: str) -> tuple[Json, ...]:
        """Return those in a namespace."""
        return tuple(one for one in self.items if one["metadata"].get("namespace") == namespace)


def name_of(item: Json) -> NamespacedName:
    """Return namespace and name of an object, the namespace "" if it has none."""
    return NamespacedName(item["metadata"].get("namespace", ""), item["metadata"]["name"])


LISTS: Mapping[str, str] = {
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "daemonsets": "/apis/apps/v1/namespaces/{namespace}/daemonsets",
    "deployments": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "configmaps": "/api/v1/namespaces/{namespace}/configmaps",
    "kube-system": "/apis/apps/v1/namespaces/kube-system/daemonsets",
    "servicecidrs": "/apis/networking.k8s.io/v1/servicecidrs",
    "services": "/api/v1/services",
    "crds": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "gatewayclasses": "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
    "gateways": "/apis/gateway.networking.k8s.io/v1/gateways",
    "httproutes": "/apis/gateway.networking.k8s.io/v1/httproutes",
    "grpcroutes": "/apis/gateway.networking.k8s.io/v1/grpcroutes",
    "tlsroutes": "/apis/gateway.networking.k8s.io/v1/tlsroutes",
    "tcproutes": "/apis/gateway.networking.k8s.io/v1/tcproutes",
    "udproutes": "/apis/gateway.networking.k8s.io/v1/udproutes",
    "ingresses": "/apis/networking.k8s.io/v1/ingresses",
    "ingressclasses": "/apis/networking.k8s.io/v1/ingressclasses",
    "listenersets": "/apis/gateway.networking.k8s.io/v1/listenersets",
    "referencegrants": "/apis/gateway.networking.k8s.io/v1/referencegrants",
    "backendtlspolicies": "/apis/gateway.networking.k8s.io/v1/backendtlspolicies",
    "networkpolicies": "/apis/networking.k8s.io/v1/networkpolicies",
    "policies": "/apis/cilium.io/v2/ciliumnetworkpolicies",
}
"""What is read; Secrets are not."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster as it was seen."""

    server: str
    namespace: str
    """Of Penstock."""
    version: str = ""
    """Of Kubernetes; "" if the server did not answer."""
    unreachable: str = ""
    """Why there is nothing."""
    lists: dict[str, Listed] = {}
    rights: dict[str, bool] = {}
    """What each account may do, as "penstock-agent list pods": answers that were given."""

    def __getitem__(self, name: str) -> Listed:
        """Return one of `LISTS`."""
        return self.lists.get(name, Listed(refused="it was not read"))

    @property
    def is_installed(self) -> bool:
        """Return whether anything of ours is in `namespace`; also where that is not known."""
        lists = [self[name] for name in ("deployments", "daemonsets", "pods")]
        return any(one.refused or any(_is_ours(item) for item in one.items) for one in lists)

    @property
    def elsewhere(self) -> str:
        """Return the namespace where the chart is instead, "" if that is not known."""
        found = (one["metadata"] for one in self["services"].items if _is_ours(one))
        return next((one["namespace"] for one in found if one["namespace"] != self.namespace), "")


def _is_ours(item: Json) -> bool:
    """Return whether an object is a workload of the chart, or their Service."""
    return str(item["metadata"]["name"]).startswith(_WORKLOADS)


def access_of(kubeconfig: Path | None, context: str, environment: Mapping[str, str]) -> Access:
    """Return which API server is meant: the file, $KUBECONFIG, this pod's, or ~/.kube/config.

    Raises:
        AccessError: there is none, or it is not usable.
    """
    if kubeconfig is not None:
        return from_kubeconfig(kubeconfig, context)
    named = environment.get("KUBECONFIG", "").split(os.pathsep)[0]
    if named:
        return from_kubeconfig(Path(named), context)
    if environment.get("KUBERNETES_SERVICE_HOST") and not context:
        return in_cluster(environment)
    return from_kubeconfig(Path.home() / ".kube" / "config", context)


def has_access(kubeconfig: Path | None, environment: Mapping[str, str]) -> bool:
    """Return whether an API server is named at all."""
    named = environment.get("KUBECONFIG") or environment.get("KUBERNETES_SERVICE_HOST")
    return bool(kubeconfig or named) or (Path.home() / ".kube" / "config").exists()


async def observe(
    access: Access, namespace: str, reviews: Iterable[Review], environment: Mapping[str, str]
) -> Cluster:
    """Return what the API server says now."""
    server = ApiServer(access, SystemClock(), environment)
    async with server.session() as session:

        async def ask(call: Call) -> Answer:
            return await server.call(session, call, ANSWER_SECONDS)

        try:
            version = (await ask(Call("GET", "/version"))).body.get("gitVersion", "")
        except (UnreachableError, PenstockError) as error:
            return Cluster(server=access.server, namespace=namespace, unreachable=str(error))
        turn = asyncio.Semaphore(_TOGETHER)

        async def listed(target: str) -> Listed:
            async with turn:
                return await _listed(ask, target.format(namespace=namespace))

        async def reviewed(review: Review) -> bool | None:
            async with turn:
                return await _reviewed(ask, review.body(namespace))

        wanted = tuple(reviews)
        lists = await asyncio.gather(*(listed(target) for target in LISTS.values()))
        answers = await asyncio.gather(*map(reviewed, wanted))
    return Cluster(
        server=access.server,
        namespace=namespace,
        version=str(version),
        lists=dict(zip(LISTS, lists, strict=True)),
        rights={
            str(review): answer
            for review, answer in zip(wanted, answers, strict=True)
            if answer is not None
        },
    )


class Review(msgspec.Struct, frozen=True):
    """A question what an account of ours may do."""

    account: str
    verb: str
    group: str
    resource: str
    """With a subresource, as "gateways/status"."""
    own: bool = False
    """Only in our namespace."""

    def __str__(self) -> str:
        """Return "penstock-agent list pods"."""
        of = f".{self.group}" if self.group else ""
        return f"{self.account} {self.verb} {self.resource}{of}"

    def body(self, namespace: str) -> Json:
        """Return the SubjectAccessReview."""
        resource, _, sub = self.resource.partition("/")
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{namespace}:{self.account}",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
                "resourceAttributes": {
                    "verb": self.verb,
                    "group": self.group,
                    "resource": resource,
                    "subresource": sub,
                    "namespace": namespace if self.own else "",
                },
            },
        }


async def _listed(ask: Any, target: str) -> Listed:
    try:
        answer: Answer = await ask(Call("GET", target))
    except UnreachableError as error:
        return Listed(refused=str(error))
    if answer.status == HTTPStatus.NOT_FOUND:
        return Listed(refused="the server does not know this kind", absent=True)
    if answer.status != HTTPStatus.OK:
        return Listed(refused=str(answer.body.get("message") or f"status {answer.status}"))
    return Listed(items=tuple(answer.body.get("items") or ()))


async def _reviewed(ask: Any, body: Json) -> bool | None:
    """Return the answer to a SubjectAccessReview, None if we may not ask."""
    target = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    try:
        answer: Answer = await ask(Call("POST", target, body))
    except UnreachableError:
        return None
    if answer.status != HTTPStatus.CREATED:
        return None
    return bool((answer.body.get("status") or {}).get("allowed"))
