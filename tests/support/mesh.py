"""A cluster of many Services, each with a canary route, for tests and benchmarks of scale."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core.objects import Broken, Object
from support import objects


def name_of(index: int) -> str:
    return f"svc-{index}"


def address(base: int, index: int) -> str:
    return f"10.{base}.{index // 250}.{index % 250 + 1}"


def service_objects(index: int) -> Iterator[Object | Broken]:
    """Yield a Service, its endpoints and its pod."""
    name = name_of(index)
    yield objects.service(name, address(96, index))
    yield objects.endpoint_slice(name, [address(244, index)])
    yield objects.pod(f"{name}-0", address(244, index), {"app": f"app-{index % 20}"})


def route(index: int, weight: int = 90, path: str = "/") -> Object | Broken:
    """Return the route of a Service: most requests to itself, the rest to its neighbour."""
    name, other = name_of(index), name_of(max(index - 1, 0))
    backends = [(name, weight), (other, 100 - weight)] if index else [(name, 1)]
    parent = objects.on_service(name)
    return objects.http_route(f"route-{index}", parent=parent, backends=backends, path=path)


def cluster(count: int) -> Iterator[Object | Broken]:
    """Yield *count* Services with routes, and a policy for every twentieth."""
    for index in range(count):
        yield from service_objects(index)
        yield route(index)
    yield readers()


def readers() -> Object | Broken:
    """Return a policy for every twentieth pod."""
    return objects.policy(
        "readers",
        {
            "endpointSelector": {"matchLabels": {"app": "app-0"}},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": "app-1"}}],
                    "toPorts": [
                        {
                            "ports": [{"port": "8080", "protocol": "TCP"}],
                            "rules": {"http": [{"method": "GET"}]},
                        }
                    ],
                }
            ],
        },
    )
