"""Short ways to write policies as JSON values and to ask what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from penstock.core.decode import examine
from penstock.core.objects import Broken
from penstock.ir.policy import EndpointPolicy, Reserved
from penstock.meta.problems import Severity
from penstock.policy.identity import identity_labels
from penstock.policy.parse import parse
from penstock.policy.resolve import endpoint_policy
from penstock.policy.resources import CiliumNetworkPolicy
from penstock.policy.rules import ParsedPolicy
from penstock.policy.selector import Selector

Json = dict[str, Any]


def cnp(spec: Any = None, *, name: str = "p", namespace: str = "shop", **more: Any) -> Json:
    body: Json = {} if spec is None else {"spec": spec}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        **body,
        **more,
    }


def app(name: str) -> Json:
    return {"matchLabels": {"app": name}}


def port(number: str, protocol: str = "TCP", **more: Any) -> Json:
    return {"port": number, "protocol": protocol, **more}


def http_item(number: str, *rules: Json) -> Json:
    """One of toPorts."""
    return {"ports": [port(number)], "rules": {"http": list(rules)}}


def http_port(number: str, *rules: Json) -> Json:
    """A rule for any peer."""
    return {"toPorts": [http_item(number, *rules)]}


def read(raw: Json) -> ParsedPolicy:
    """Decode and parse as the compiler does."""
    decoded = examine(CiliumNetworkPolicy, raw).object
    assert isinstance(decoded, CiliumNetworkPolicy | Broken)
    return parse(decoded)


def errors(raw: Json) -> list[str]:
    return [str(one) for one in read(raw).problems if one.severity is Severity.ERROR]


def warnings(raw: Json) -> list[str]:
    return [str(one) for one in read(raw).problems if one.severity is Severity.WARNING]


def ingress(*rules: Json, of: str = "server", **more: Any) -> Json:
    return {"endpointSelector": app(of), "ingress": list(rules), **more}


def egress(*rules: Json, of: str = "server", **more: Any) -> Json:
    return {"endpointSelector": app(of), "egress": list(rules), **more}


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """A workload of a small world."""

    identity: int
    namespace: str
    labels: tuple[tuple[str, str], ...]

    @property
    def identity_labels(self) -> dict[str, str]:
        return identity_labels(
            namespace=self.namespace,
            pod_labels=dict(self.labels),
            namespace_labels={"team": self.namespace[:1]},
            service_account="default",
            cluster="default",
        )


class World:
    """Workloads and reserved identities that policies are resolved against."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self.pods = tuple(pods)
        self.labels: dict[int, Mapping[str, str]] = {
            pod.identity: pod.identity_labels for pod in self.pods
        }
        self._known: dict[Selector, frozenset[int]] = {}

    def identities_of(self, selector: Selector) -> frozenset[int]:
        if selector not in self._known:
            self._known[selector] = frozenset(
                identity for identity, labels in self.labels.items() if selector.matches(labels)
            )
        return self._known[selector]

    def policy_of(
        self,
        pod: Pod,
        parsed: Iterable[ParsedPolicy],
        named_ports: Mapping[str, frozenset[int]] | None = None,
    ) -> EndpointPolicy:
        rules = [
            rule
            for one in parsed
            for rule in one.rules
            if rule.subject.matches(self.labels[pod.identity])
        ]
        return endpoint_policy(rules, self.identities_of, named_ports or {})


SERVER = Pod(identity=70000, namespace="shop", labels=(("app", "server"),))
CLIENT = Pod(identity=70001, namespace="shop", labels=(("app", "client"), ("tier", "web")))
OTHER = Pod(identity=70002, namespace="shop", labels=(("app", "other"),))
FOREIGN = Pod(identity=70003, namespace="bank", labels=(("app", "client"),))
WORLD = World([SERVER, CLIENT, OTHER, FOREIGN])

HOST, OUTSIDE, INGRESS = int(Reserved.HOST), int(Reserved.WORLD), int(Reserved.INGRESS)


def server_policy(*raws: Json, **named_ports: int) -> EndpointPolicy:
    """Return what holds for SERVER under policies given as JSON values."""
    named = {name: frozenset({number}) for name, number in named_ports.items()}
    return WORLD.policy_of(SERVER, [read(raw) for raw in raws], named)
