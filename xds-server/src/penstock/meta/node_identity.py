"""Who a node is on the way to its controller: SPIFFE IDs, and where controllers are found.

Source: SPIFFE ID standard, section 2; Kubernetes, names of Nodes are RFC 1123 subdomains.
"""

from __future__ import annotations

import re

TRUST_DOMAIN = "cluster.local"
CONTROLLER_NAME = "penstock-controller"
"""The name in each controller's certificate, at whatever address it is met."""
ADS_PORT, JOIN_PORT, METRICS_PORT = 15012, 15013, 15014
JOIN_PATH = "/v1/join"
JOIN_AUDIENCE = "penstock"

_PART = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_PART}(\.{_PART})*\Z")


def is_node_name(name: str) -> bool:
    """Return whether a Node can be called so."""
    return _NAME.match(name) is not None


def node_uri(trust_domain: str, node: str) -> str:
    """Return the SPIFFE ID of a node."""
    return f"{_prefix(trust_domain)}{node}"


def node_of(uri: str, trust_domain: str) -> str | None:
    """Return the node that *uri* is the SPIFFE ID of, None if it is no node's of this domain."""
    prefix = _prefix(trust_domain)
    name = uri.removeprefix(prefix)
    return name if uri.startswith(prefix) and is_node_name(name) else None


def controller_uri(trust_domain: str) -> str:
    """Return the SPIFFE ID of controllers."""
    return f"spiffe://{trust_domain}/penstock/controller"


def _prefix(trust_domain: str) -> str:
    return f"spiffe://{trust_domain}/penstock/node/"
