"""What tools of others write and read, field by field, against a compiler as the cluster.

Flagger (provider gatewayapi:v1), the Gateway API plugin of Argo Rollouts, external-dns and
cert-manager: each does here what it does at an API server, and looks at nothing else.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterator
from typing import Any

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.meta.names import ObjectRef
from support import objects

Json = dict[str, Any]
GATEWAY_API = "gateway.networking.k8s.io/v1"


class Cluster:
    """Objects as an API server keeps them, compiled as they come."""

    def __init__(self, *raws: Json) -> None:
        self.compiler = Compiler()
        self._raws: dict[ObjectRef, Json] = {}
        for one in raws:
            self.apply(one)

    def apply(self, raw: Json) -> None:
        """Create or update; the generation grows with every change of the spec."""
        raw = copy.deepcopy(raw)
        meta = raw["metadata"]
        ref = ObjectRef(raw["kind"], meta.get("namespace", ""), meta["name"])
        old = self._raws.get(ref)
        generation = 1 if old is None else old["metadata"]["generation"]
        meta["generation"] = generation + (old is not None and old.get("spec") != raw.get("spec"))
        self._raws[ref] = raw
        self._take(EventType.MODIFIED if old else EventType.ADDED, raw)

    def delete(self, kind: str, name: str, namespace: str = "shop") -> None:
        self._take(EventType.DELETED, self._raws.pop(ObjectRef(kind, namespace, name)))

    def get(self, kind: str, name: str, namespace: str = "shop") -> Json:
        """Return an object with the status that it has now."""
        ref = ObjectRef(kind, namespace, name)
        raw = copy.deepcopy(self._raws[ref])
        found = status_of(self.compiler.db, objects.made(raw), lambda _: None)
        return raw | {"status": found or {}}

    def list(self, kind: str) -> list[Json]:
        return [
            self.get(ref.kind, ref.name, ref.namespace) for ref in self._raws if ref.kind == kind
        ]

    def _take(self, change: EventType, raw: Json) -> None:
        self.compiler.apply([Event(change, objects.made(raw))])
        assert self.compiler.failures == {}


class Flagger:
    """A Canary of provider gatewayapi:v1, as Flagger's router reconciles it."""

    def __init__(self, cluster: Cluster, gateway: str, host: str, apex: str = "podinfo") -> None:
        self._cluster, self._apex = cluster, apex
        self._parents = [
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway,
             "namespace": "shop"}
        ]  # fmt: skip
        self._hosts = [host]
        self._analysis: Json = {}

    def ab_test(self, **header: str) -> None:
        """Choose A/B testing: requests with the header go to the canary."""
        ((name, value),) = header.items()
        self._analysis["headers"] = [{"name": name, "type": "Exact", "value": value}]

    def mirror(self) -> None:
        self._analysis["mirror"] = True

    def sticky(self, cookie: str) -> None:
        self._analysis["cookie"] = cookie

    def set_routes(self, primary: int, canary: int) -> None:
        """Write the HTTPRoute for the weights; the whole of its spec is replaced."""
        rules = [self._weighted(primary, canary)]
        headers, cookie = self._analysis.get("headers"), self._analysis.get("cookie")
        if headers:
            match = {"path": {"type": "PathPrefix", "value": "/"}, "headers": headers}
            rules = [
                {"matches": [match], "backendRefs": [self._backend("canary", canary)]},
                {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                 "backendRefs": [self._backend("primary", primary)]},
            ]  # fmt: skip
        elif cookie and canary:
            kept = {"name": "Cookie", "type": "RegularExpression", "value": f".*{cookie}.*"}
            rules[0]["backendRefs"][1]["filters"] = [
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [
                    {"name": "Set-Cookie", "value": f"{cookie}=1; Max-Age=86400"}]}}
            ]  # fmt: skip
            sticky = {"path": {"type": "PathPrefix", "value": "/"}, "headers": [kept]}
            only = [self._backend("primary", 0), self._backend("canary", 100)]
            rules.insert(0, {"matches": [sticky], "backendRefs": only})
        self._cluster.apply(
            {"apiVersion": GATEWAY_API, "kind": "HTTPRoute",
             "metadata": {"name": self._apex, "namespace": "shop",
                          "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
                          "ownerReferences": [{"apiVersion": "flagger.app/v1beta1",
                                               "kind": "Canary", "name": self._apex,
                                               "uid": "u", "controller": True,
                                               "blockOwnerDeletion": True}]},
             "spec": {"parentRefs": self._parents, "hostnames": self._hosts, "rules": rules}}
        )  # fmt: skip

    def ready(self) -> str:
        """Return "", or what Flagger says and waits for: it compares parentRefs field by field."""
        route = self._cluster.get("HTTPRoute", self._apex)
        for wanted in route["spec"]["parentRefs"]:
            same = [one for one in route["status"].get("parents", []) if one["parentRef"] == wanted]
            if not same:
                return f"no status of parent {wanted}"
            for one in same[0]["conditions"]:
                if one["type"] != "Accepted":
                    continue
                if one["status"] != "True":
                    return "is not ready"
                if one["observedGeneration"] < route["metadata"]["generation"]:
                    return "observed generation is behind"
        return ""

    def _weighted(self, primary: int, canary: int) -> Json:
        rule: Json = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [self._backend("primary", primary), self._backend("canary", canary)],
        }
        if self._analysis.get("mirror"):
            to = self._backend("canary", None)
            rule["filters"] = [{"type": "RequestMirror", "requestMirror": {"backendRef": to}}]
        return rule

    def _backend(self, which: str, weight: int | None) -> Json:
        ref = {"group": "", "kind": "Service", "name": f"{self._apex}-{which}", "port": 80}
        return ref if weight is None else ref | {"weight": weight}


class ArgoPlugin:
    """The Gateway API plugin of Argo Rollouts at one HTTPRoute that somebody else wrote."""

    LABEL = "rollouts.argoproj.io/gatewayapi-canary"

    def __init__(self, cluster: Cluster, route: str, stable: str, canary: str) -> None:
        self._cluster, self._route = cluster, route
        self._stable, self._canary = stable, canary

    def set_weight(self, desired: int) -> None:
        """Write the weights of both Services in every rule that has both."""
        route = self._read()
        for rule in route["spec"]["rules"]:
            refs = {one["name"]: one for one in rule.get("backendRefs", [])}
            if {self._stable, self._canary} <= refs.keys():
                refs[self._canary]["weight"] = desired
                refs[self._stable]["weight"] = 100 - desired
        self._write(route, running=0 < desired < 100)

    def set_header_route(self, managed: str, name: str, value: str) -> None:
        """Append a rule for each one with the canary, narrowed by a header."""
        route = self._read()
        header = {"name": name, "type": "Exact", "value": value}
        new: list[Json] = []
        for rule in route["spec"]["rules"]:
            canary = [one for one in rule.get("backendRefs", []) if one["name"] == self._canary]
            if not canary:
                continue
            matches = [self._narrowed(one, header) for one in rule.get("matches") or [{}]]
            backend = {key: one for key, one in canary[0].items() if key != "weight"}
            made = {"name": managed + (f"-{len(new)}" if new else ""), "matches": matches,
                    "backendRefs": [backend]}  # fmt: skip
            new.append(made | ({"filters": rule["filters"]} if "filters" in rule else {}))
        route["spec"]["rules"] += new
        self._write(route, running=True)

    def remove_managed_routes(self, managed: str) -> None:
        route = self._read()
        rules = route["spec"]["rules"]
        kept = [one for one in rules if not one.get("name", "").startswith(managed)]
        route["spec"]["rules"] = kept
        self._write(route, running=False)

    def _narrowed(self, match: Json, header: Json) -> Json:
        made = copy.deepcopy(match)
        path = made.get("path")
        if path and path.get("type", "PathPrefix") == "PathPrefix":
            made["path"] = {"type": "RegularExpression", "value": path["value"] + ".*"}
        made["headers"] = [*made.get("headers", []), header]
        return made

    def _read(self) -> Json:
        found = self._cluster.get("HTTPRoute", self._route)
        del found["status"]
        return found

    def _write(self, route: Json, *, running: bool) -> None:
        labels = route["metadata"].setdefault("labels", {})
        labels.pop(self.LABEL, None)
        if running:
            labels[self.LABEL] = "in-progress"
        self._cluster.apply(route)


def external_dns(cluster: Cluster) -> dict[str, list[str]]:
    """Return the names that external-dns's sources gateway-httproute and ingress make, by host."""
    found: dict[str, list[str]] = {}
    for host, targets in (*_of_routes(cluster), *_of_ingresses(cluster)):
        found[host] = sorted({*found.get(host, []), *targets})
    return found


def _of_routes(cluster: Cluster) -> Iterator[tuple[str, list[str]]]:
    for route in cluster.list("HTTPRoute"):
        for entry in route["status"].get("parents", []):
            ref = entry["parentRef"]
            named = (ref.get("group", "gateway.networking.k8s.io"), ref.get("kind", "Gateway"))
            accepted = {one["type"]: one["status"] for one in entry["conditions"]}.get("Accepted")
            if named != ("gateway.networking.k8s.io", "Gateway") or accepted != "True":
                continue
            namespace = ref.get("namespace", route["metadata"]["namespace"])
            gateway = cluster.get("Gateway", ref["name"], namespace)
            notes = gateway["metadata"].get("annotations", {})
            override = notes.get("external-dns.alpha.kubernetes.io/target")
            targets = [override] if override else [
                one["value"] for one in gateway["status"].get("addresses", [])
            ]  # fmt: skip
            for listener in gateway["spec"]["listeners"]:
                if ref.get("sectionName") not in (None, listener["name"]):
                    continue
                for host in _common(listener.get("hostname", ""), route["spec"]["hostnames"]):
                    yield host, targets


def _of_ingresses(cluster: Cluster) -> Iterator[tuple[str, list[str]]]:
    for one in cluster.list("Ingress"):
        balanced = one["status"].get("loadBalancer", {}).get("ingress", [])
        hosts = {rule.get("host") for rule in one["spec"].get("rules", [])}
        hosts |= {host for tls in one["spec"].get("tls", []) for host in tls.get("hosts", [])}
        for host in sorted(filter(None, hosts)):
            yield host, [entry["ip"] for entry in balanced]


def _common(listener: str, hosts: list[str]) -> list[str]:
    return [host for host in hosts if not listener or fnmatch.fnmatch(host, listener)]


SOLVER_LABELS = {
    "acme.cert-manager.io/http-domain": "1",
    "acme.cert-manager.io/http-token": "2",
    "acme.cert-manager.io/http01-solver": "true",
}


def solver_service() -> Json:
    """Return the Service of cert-manager's HTTP-01 solver."""
    meta = {"name": "cm-acme-http-solver-x7f2k", "namespace": "shop", "labels": SOLVER_LABELS}
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": meta,
        "spec": {"type": "NodePort", "clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"],
                 "selector": SOLVER_LABELS,
                 "ports": [{"name": "http", "port": 8089, "targetPort": 8089, "nodePort": 31000}]},
    }  # fmt: skip


def solver_route(host: str, token: str, gateway: str) -> Json:
    """Return the HTTPRoute of cert-manager's HTTP-01 solver (gatewayHTTPRoute)."""
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway,
              "namespace": "shop"}  # fmt: skip
    rule = {
        "matches": [{"path": {"type": "Exact", "value": f"/.well-known/acme-challenge/{token}"}}],
        "backendRefs": [{"group": "", "kind": "Service", "name": "cm-acme-http-solver-x7f2k",
                         "namespace": "shop", "port": 8089, "weight": 1}],
    }  # fmt: skip
    meta = {"name": "cm-acme-http-solver-9hb2d", "namespace": "shop", "labels": SOLVER_LABELS}
    spec = {"parentRefs": [parent], "hostnames": [host], "rules": [rule]}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": meta, "spec": spec}


def solver_ingress(host: str, token: str, class_name: str = "penstock") -> Json:
    """Return the Ingress of cert-manager's HTTP-01 solver."""
    backend = {"service": {"name": "cm-acme-http-solver-x7f2k", "port": {"number": 8089}}}
    path = {"path": f"/.well-known/acme-challenge/{token}", "pathType": "ImplementationSpecific",
            "backend": backend}  # fmt: skip
    notes = {"nginx.ingress.kubernetes.io/whitelist-source-range": "0.0.0.0/0,::/0"}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "cm-acme-http-solver-kd82j", "namespace": "shop",
                     "annotations": notes, "labels": SOLVER_LABELS},
        "spec": {"ingressClassName": class_name,
                 "rules": [{"host": host, "http": {"paths": [path]}}]},
    }  # fmt: skip
