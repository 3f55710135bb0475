from __future__ import annotations

import pytest

from penstock.envoy.cluster import Protocol, Role, policed, policed_bytes
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("netns", ["", "netns/node"])
@pytest.mark.parametrize(
    "target",
    [
        ServicePort(NamespacedName("a", "b"), 1),
        ServicePort(NamespacedName("shop", "orders"), 80),
        ServicePort(NamespacedName("n" * 63, "s" * 63), 65535),
    ],
    ids=str,
)
def test_a_name_put_into_a_blank_cluster_gives_the_cluster_of_that_name(
    role: Role, protocol: Protocol, netns: str, target: ServicePort
) -> None:
    built = policed(role, target, protocol, node_netns=netns)
    serialised = policed_bytes(role, target, protocol, node_netns=netns)
    assert serialised == built.SerializeToString(deterministic=True)
