"""Networks of virtual and of private addresses, and the place of nobody."""

from __future__ import annotations

import ipaddress

SERVICE_NETWORKS = ("10.96.0.0/12", "fd96::/64")
"""Addresses of Services, IPv4 and IPv6: never on the wire."""
GATEWAY_NETWORK = "10.97.0.0/24"
"""Addresses of Gateways, inside the Services' network; a node has all of it as local."""
REFUSING = ("127.0.0.1", 1)
"""Address and port where nobody listens: who is led there is refused."""
PRIVATE_NETWORKS = (
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("::ffff:0.0.0.0", 96),
    ("fc00::", 7),
)
"""Where clusters have pods and nodes, as (address, length of the prefix)."""
_PRIVATE = tuple(
    ipaddress.ip_network(f"{address}/{length}") for address, length in PRIVATE_NETWORKS
)


def is_private(address: str) -> bool:
    """Return whether *address* is in one of the private networks."""
    found = ipaddress.ip_address(address)
    return any(found.version == one.version and found in one for one in _PRIVATE)
