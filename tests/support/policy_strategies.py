"""Random valid policies over a small world, as JSON values."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from support.policies import Json, Pod, World
from support.policy_oracle import Call, Peer

NAMESPACES = ("shop", "bank")
APPS = ("a", "b")
PORTS = (80, 81)
PATHS = ("/a", "/b", "/a?x=1")

PODS = tuple(
    Pod(
        identity=70000 + number,
        namespace=namespace,
        labels=(("app", app), ("tier", "web")) if app == "a" else (("app", app),),
    )
    for number, (namespace, app) in enumerate(
        (namespace, app) for namespace in NAMESPACES for app in APPS
    )
)
SMALL_WORLD = World(PODS)
PEERS = (
    *(Peer(pod.identity, pod.namespace, dict(pod.labels)) for pod in PODS),
    *(Peer(number, None, {}) for number in (1, 2, 6, 8)),
)
CALLS = tuple(
    Call(egress=way, peer=peer, port=port, protocol=protocol)
    for way in (False, True)
    for peer in PEERS
    for port in PORTS
    for protocol in ("TCP", "UDP")
)
REQUESTS = (
    {"path": "/a", "method": "GET", "token": None},
    {"path": "/a", "method": "POST", "token": "1"},
    {"path": "/b", "method": "GET", "token": "2"},
    {"path": "/a?x=1", "method": "GET", "token": None},
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Mappings where each field may be missing."""
    return st.fixed_dictionaries({}, optional=fields)


expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "io.kubernetes.pod.namespace"]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(
                st.sampled_from(["a", "b", "web", *NAMESPACES]), min_size=1, max_size=2
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "io.kubernetes.pod.namespace"]),
            "operator": st.sampled_from(["Exists", "DoesNotExist"]),
        }
    ),
)
subjects = optional(
    matchLabels=optional(app=st.sampled_from(APPS)),
    matchExpressions=st.lists(
        st.fixed_dictionaries(
            {"key": st.just("tier"), "operator": st.sampled_from(["Exists", "DoesNotExist"])}
        ),
        max_size=1,
    ),
)
selectors = optional(
    matchLabels=st.fixed_dictionaries(
        {},
        optional={
            "app": st.sampled_from(APPS),
            "io.kubernetes.pod.namespace": st.sampled_from(NAMESPACES),
        },
    ),
    matchExpressions=st.lists(expressions, max_size=2),
)
entities = st.sampled_from(
    ["all", "world", "cluster", "host", "remote-node", "ingress", "health", "none"]
)
requests = optional(
    path=st.sampled_from(["/a", "/b", "/a.*", "/.*", "/a$", "/(a|b)"]),
    method=st.sampled_from(["GET", "POST", "GET|POST"]),
    headers=st.lists(st.sampled_from(["X-Token", "X-Token: 1"]), max_size=1),
)
plain_ports = st.fixed_dictionaries(
    {"port": st.sampled_from(["0", "80", "81"])},
    optional={
        "protocol": st.sampled_from(["TCP", "UDP", "SCTP", "ANY"]),
        "endPort": st.sampled_from([79, 81, 90]),
    },
)
http_ports = st.fixed_dictionaries(
    {"port": st.sampled_from(["80", "81"]), "protocol": st.just("TCP")},
    optional={"endPort": st.sampled_from([81])},
)
plain_items = optional(ports=st.lists(plain_ports, max_size=2))
http_items = st.fixed_dictionaries(
    {
        "ports": st.lists(http_ports, min_size=1, max_size=2),
        "rules": optional(http=st.lists(requests, max_size=2)),
    }
)


@st.composite
def rules(draw: st.DrawFn, side: str, *, deny: bool) -> Json:
    """One element of ingress or egress: one peer member at most, ports perhaps."""
    rule: Json = {}
    member = draw(st.sampled_from(["none", "Endpoints", "Entities"]))
    if member == "Endpoints":
        rule[f"{side}Endpoints"] = draw(st.lists(selectors, max_size=2))
    elif member == "Entities":
        rule[f"{side}Entities"] = draw(st.lists(entities, max_size=2))
    if draw(st.booleans()):
        items = plain_items if deny else st.one_of(plain_items, http_items)
        rule["toPorts"] = draw(st.lists(items, max_size=2))
    return rule


@st.composite
def specs(draw: st.DrawFn) -> Json:
    spec: Json = {"endpointSelector": draw(subjects)}
    for name, side, deny in (
        ("ingress", "from", False),
        ("egress", "to", False),
        ("ingressDeny", "from", True),
        ("egressDeny", "to", True),
    ):
        if draw(st.integers(0, 3 if deny else 1)) == 0:
            spec[name] = draw(st.lists(rules(side, deny=deny), min_size=1, max_size=2))
    if len(spec) == 1:
        spec["ingress"] = [draw(rules("from", deny=False))]
    if draw(st.integers(0, 2)) == 0:
        spec["enableDefaultDeny"] = draw(optional(ingress=st.booleans(), egress=st.booleans()))
    return spec


@st.composite
def policies(draw: st.DrawFn, *, name: str = "p") -> Json:
    body: Json = {"spec": draw(specs())}
    if draw(st.integers(0, 4)) == 0:
        body = {"specs": draw(st.lists(specs(), min_size=1, max_size=2))}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": draw(st.sampled_from(NAMESPACES))},
        **body,
    }


@st.composite
def policy_sets(draw: st.DrawFn, *, min_size: int = 0, max_size: int = 3) -> list[Json]:
    count = draw(st.integers(min_size, max_size))
    return [draw(policies(name=f"p{number}")) for number in range(count)]
