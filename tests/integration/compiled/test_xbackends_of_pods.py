"""XBackends behind routes on Services: what policy does to requests of pods, with a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.envoy.cluster import HTTP_OPTIONS
from penstock.envoy.scope import egress_key
from penstock.envoy.wire import pack
from penstock.meta.listeners import egress_name
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects, streams
from support.compiled_envoy import (
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    remade,
    scope_at,
    socket_name,
)
from support.http_backend import http_backend, seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT, WEB = "10.244.0.1", "10.244.0.2"
VIP = "10.96.0.1"
LISTENER = egress_name("uid-Pod/shop/front-0")
OUTSIDE = "mesh-host|shop/outside"


def _here(resource: Resource) -> Resource:
    """Let the scope be found where the listener is, and names lead to this machine."""
    if resource.name == egress_key(f"{VIP}:80"):
        return scope_at(resource, egress_key(socket_name(LISTENER)))
    if (resource.type_url, resource.name) != (types.CLUSTER, OUTSIDE):
        return resource
    cluster = cluster_pb2.Cluster.FromString(resource.body)
    packed = cluster.typed_extension_protocol_options[HTTP_OPTIONS]
    options = options_pb2.HttpProtocolOptions.FromString(packed.value)
    kept = [one for one in options.http_filters if one.name != "penstock.refused"]
    del options.http_filters[:]
    options.http_filters.extend(kept)
    packed.CopyFrom(pack(options))
    return remade(resource, cluster)


class Lab:
    def __init__(self, envoy: CompiledEnvoy, web: Place, outside: Place) -> None:
        self.envoy, self.web, self.outside = envoy, web, outside

    async def show(self, backend: str, *more: Object | Broken, kind: str = "HTTPRoute") -> None:
        """Have all requests to the Service go to one of the two XBackends."""
        at = [objects.on_service("api")]
        route = streams.route(kind, "r", [(backend, 1)], parentRefs=at)
        compiler = Compiler()
        compiler.apply(objects.added([*self._world(), route, *more]))
        assert compiler.failures == {}
        around = Surroundings(endpoints={WEB: self.web})
        await self.envoy.run(map(_here, compiler.resources("n1")), around)

    def _world(self) -> list[Object | Broken]:
        return [
            objects.service("api", VIP),
            objects.pod("front-0", FRONT, {"app": "front"}),
            objects.pod("web-0", WEB, {"app": "web"}),
            objects.xbackend("picked", {"app": "web"}, port=8080),
            objects.xbackend("outside", "localhost", port=self.outside[1]),
        ]

    async def outcome(self, path: str = "/") -> str | int:
        """Return who answers a request of the pod, or its status."""
        answer = await self.envoy.ask(LISTENER, path, host="api")
        return seen(answer).name if answer.status == 200 else answer.status

    def egress(self, *paths: str, port: int, **side: Any) -> Object | Broken:
        """Return a policy for the client: it may send to *side* on a port, and nowhere else."""
        item: dict[str, Any] = {"ports": [{"port": str(port), "protocol": "TCP"}]}
        if paths:
            item["rules"] = {"http": [{"path": path} for path in paths]}
        spec = {
            "endpointSelector": {"matchLabels": {"app": "front"}},
            "egress": [{**side, "toPorts": [item]}],
        }
        return objects.policy("egress", spec)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with (
        http_backend("web") as web,
        http_backend("outside", "0.0.0.0") as outside,
        compiled_envoy(tmp_path_factory.mktemp("e")) as envoy,
    ):
        yield Lab(envoy, web, outside)


def _pods(app: str) -> dict[str, Any]:
    return {"toEndpoints": [{"matchLabels": {"app": app}}]}


WORLD = {"toEntities": ["world"]}


async def test_without_policy_pods_reach_both(lab: Lab) -> None:
    await lab.show("picked")
    assert await lab.outcome() == "web"
    await lab.show("outside")
    assert await lab.outcome() == "outside"


@pytest.mark.parametrize("kind", ["HTTPRoute", "TCPRoute"])
async def test_the_clients_rules_judge_the_pods_that_are_selected(lab: Lab, kind: str) -> None:
    await lab.show("picked", lab.egress("/public/.*", port=8080, **_pods("web")), kind=kind)
    assert await lab.outcome("/public/x") == "web"
    assert await lab.outcome("/admin") == 403


async def test_rules_for_others_let_nothing_pass(lab: Lab) -> None:
    for other in (lab.egress(port=8081, **_pods("web")), lab.egress(port=8080, **_pods("api"))):
        await lab.show("picked", other)
        assert await lab.outcome("/public/x") == 403


async def test_the_servers_rules_judge_who_is_sent_there(lab: Lab) -> None:
    item = {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"path": "/in"}]}}
    for client, outcome in (("front", "web"), ("api", 403)):
        rule = {"fromEndpoints": [{"matchLabels": {"app": client}}], "toPorts": [item]}
        spec = {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [rule]}
        await lab.show("picked", objects.policy("ingress", spec))
        assert await lab.outcome("/in") == outcome
        assert await lab.outcome("/out") == 403


async def test_who_may_not_send_outside_is_not_led_there_by_a_route(lab: Lab) -> None:
    port = lab.outside[1]
    await lab.show("outside", lab.egress(port=port, **_pods("web")))
    assert await lab.outcome() == 403
    await lab.show("outside", lab.egress(port=port % 65535 + 1, **WORLD))
    assert await lab.outcome() == 403
    await lab.show("outside", lab.egress(port=port, **WORLD))
    assert await lab.outcome() == "outside"


async def test_rules_about_requests_hold_outside_too(lab: Lab) -> None:
    await lab.show("outside", lab.egress("/public/.*", port=lab.outside[1], **WORLD))
    assert await lab.outcome("/public/x") == "outside"
    assert await lab.outcome("/admin") == 403


async def test_a_name_that_leads_to_a_pod_is_not_outside(lab: Lab) -> None:
    everywhere = lab.egress(port=lab.outside[1], **WORLD)
    hidden = objects.pod("hidden", "127.0.0.1", {"app": "hidden"}, node="n2")
    await lab.show("outside", everywhere, hidden)
    assert await lab.outcome() == 403
    await lab.show("outside", hidden)
    assert await lab.outcome() == "outside"
