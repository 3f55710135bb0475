"""Networks of virtual addresses, in prefix notation, and the place of nobody."""

from __future__ import annotations

SERVICE_NETWORKS = ("10.96.0.0/12", "fd96::/64")
"""Addresses of Services, IPv4 and IPv6: never on the wire."""
GATEWAY_NETWORK = "10.97.0.0/24"
"""Addresses of Gateways, inside the Services' network; a node has all of it as local."""
REFUSING = ("127.0.0.1", 1)
"""Address and port where nobody listens: who is led there is refused."""
