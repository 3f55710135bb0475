"""A cloud's controller for Services of type LoadBalancer, as far as it can be seen from inside."""

from __future__ import annotations

from typing import Any

from support.kube import KubeApi


class Cloud:
    """Gives addresses to Services without a class, as the cloud controller manager does."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        """Look after the Services of one namespace."""
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/services"
        self._given: dict[str, str] = {}
        self.asked: dict[str, dict[str, str]] = {}
        """Annotations of each Service that it served."""

    def work(self) -> None:
        """Look once at everything."""
        for service in self._api.request("GET", self._path)[1]["items"]:
            spec, name = service["spec"], service["metadata"]["name"]
            if spec["type"] != "LoadBalancer" or spec.get("loadBalancerClass"):
                continue
            # a balancer sends to nodes: it needs a node port for each port
            assert all(one.get("nodePort") for one in spec["ports"])
            self.asked[name] = service["metadata"].get("annotations", {})
            self._tell(service, {"ingress": [self._entry(name, spec)]})

    def _entry(self, name: str, spec: dict[str, Any]) -> dict[str, str]:
        if "named" in name:
            return {"hostname": f"{name}.cloud.test"}
        free = f"203.0.113.{len(self._given) + 1}"
        address = spec.get("loadBalancerIP") or self._given.setdefault(name, free)
        return {"ip": address, "ipMode": "VIP"}

    def _tell(self, service: dict[str, Any], status: dict[str, Any]) -> None:
        if service["status"]["loadBalancer"] == status:
            return
        path = f"{self._path}/{service['metadata']['name']}/status"
        patch = {"status": {"loadBalancer": status}}
        answer, said = self._api.request("PATCH", path, patch, "application/merge-patch+json")
        assert answer in (200, 404), said
