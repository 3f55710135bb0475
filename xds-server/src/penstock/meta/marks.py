"""Socket marks that Envoy's upstream connections carry; the same numbers stand in abi.h."""

from __future__ import annotations

APP_LEG = 0x9E570001
"""From an ingress listener to the application, dialled from elsewhere than the pod."""
POLICED = 0x9E570002
"""The egress pass has enforced the server's inbound rules already."""
POLICED_GATEWAY = 0x9E570003
"""The same for a gateway, whose identity is Reserved.INGRESS whatever the source address."""
GATEWAY = 0x9E570004
"""From a gateway, but nobody has judged it: bytes, datagrams, questions of its own."""
UNREAD = 0x9E570005
"""Of a pod, passed on unread, such as TLS: the kernel judges it, on both sides."""
