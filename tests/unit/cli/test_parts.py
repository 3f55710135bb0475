"""What the options of the controller come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cli.parts import ClusterOptions, settings_of
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.meta.errors import PenstockError

FILE = Path("config")


def settings(addresses: str = "nodes", system: str = "") -> Settings:
    cluster = ClusterOptions(kubeconfig=FILE, gateway_addresses=addresses, system_namespace=system)
    return settings_of(cluster, 8000, only_gateways=False)


def test_without_an_api_server_it_is_a_lab() -> None:
    assert settings_of(ClusterOptions(), 8000, only_gateways=False) == Settings()
    only = settings_of(ClusterOptions(), 18000, only_gateways=True)
    assert only == Settings(reach=Reach.HOST, published_offset=18000)


def test_gateways_of_a_cluster_are_at_the_nodes_unless_there_is_a_pool() -> None:
    found = settings()
    assert (found.reach, found.addressing) == (Reach.CLUSTER, Addressing.NODES)
    found = settings("loadbalancer")
    assert (found.reach, found.addressing) == (Reach.CLUSTER, Addressing.LOAD_BALANCER)
    found = settings("pool:192.0.2.0/26,192.0.2.100-192.0.2.110")
    assert (found.reach, found.addressing) == (Reach.CLUSTER, Addressing.POOL)
    assert found.gateway_pool == "192.0.2.0/26,192.0.2.100-192.0.2.110"


def test_penstocks_own_pods_are_in_a_namespace_of_their_own() -> None:
    assert settings().system_namespace == "penstock-system"
    assert settings(system="mesh").system_namespace == "mesh"


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ("pool:", "write networks, ranges"),
        ("pool:192.0.2.1/26", "host bits"),
        ("nodes:x", "none of nodes, loadbalancer"),
        ("everywhere", "none of nodes, loadbalancer"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(addresses: str, said: str) -> None:
    with pytest.raises(PenstockError, match=said):
        settings(addresses)
