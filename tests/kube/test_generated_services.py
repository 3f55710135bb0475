"""Services of Gateways in a real API server: made, kept, changed and deleted by one controller."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
from typing_extensions import override

from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.gatewayapi.resources import CONTROLLER_NAME
from penstock.sources.kubernetes.connection import Answer, Call
from penstock.sources.kubernetes.event_writer import Send
from penstock.sources.kubernetes.object_writer import ObjectWriter
from penstock.sources.kubernetes.status_writer import StatusWriter
from support import replicas
from support.cloud import Cloud
from support.kube import KubeApi, path_of
from support.source_suite import eventually

POOL = Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/28", system_namespace="generated")
CLOUD = Settings(
    reach=Reach.CLUSTER, addressing=Addressing.LOAD_BALANCER, system_namespace="generated"
)
NAMESPACE = "generated"
GATEWAY_API = "gateway.networking.k8s.io/v1"


def _nothing(_: Call) -> None:
    """Do nothing before a request."""


class InterposedWriter(ObjectWriter):
    """Lets a test do something just before a request."""

    before: Callable[[Call], None] = staticmethod(_nothing)

    async def run(self, send: Send, may_write: Callable[[], bool]) -> None:
        """Tell `before` of each request."""

        async def told(call: Call) -> Answer:
            self.before(call)
            return await send(call)

        await super().run(told, may_write)


class Replica(replicas.Replica):
    """A controller that makes objects, too."""

    writer_type = StatusWriter

    def __init__(self, api: KubeApi, name: str, settings: Settings) -> None:
        super().__init__(api, name, settings)
        self.objects = InterposedWriter(self.clock, random.random, self.feed.objects)
        self.writer.objects = self.objects

    @override
    async def idle(self) -> None:
        """Wait until it leads and nothing is left to do."""
        await eventually(lambda: self.writer.leads and not (self.objects.waiting))


@contextlib.asynccontextmanager
async def replica(
    api: KubeApi, settings: Settings = POOL, name: str = "one"
) -> AsyncGenerator[Replica]:
    async with replicas.running(Replica(api, name, settings)) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(api: KubeApi) -> Generator[None]:
    """Start without Gateways and Services, with a node that can serve and that goes again."""
    api.namespace(NAMESPACE)
    for path in (
        f"/apis/{GATEWAY_API}/namespaces/{NAMESPACE}/gateways",
        f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/ingresses",
        f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices",
    ):
        assert api.request("DELETE", path)[0] == 200
    for one in services(api):
        api.delete(one)
    api.delete(replicas.LEASE)
    for name in ("generated", "other"):
        api.apply(gateway_class(name))
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "generated"}}
    api.apply(node)
    status = {
        "addresses": [{"type": "InternalIP", "address": "198.51.100.7"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    merge = "application/merge-patch+json"
    answer, said = api.request("PATCH", f"{path_of(node)}/status", {"status": status}, merge)
    assert answer == 200, said
    yield
    api.delete(node)


def gateway_class(name: str, controller: str = CONTROLLER_NAME) -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller},
    }


def gateway(name: str = "g", *, of: str = "generated", **spec: Any) -> dict[str, Any]:
    listeners = [{"name": "web", "port": 80, "protocol": "HTTP"}]
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"gatewayClassName": of, "listeners": listeners, **spec},
    }


def users_service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"whose": "mine"}},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 8080, "protocol": "TCP"}]},
    }


def services(api: KubeApi) -> list[dict[str, Any]]:
    found = api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/services")[1]["items"]
    return [{"apiVersion": "v1", "kind": "Service", **one} for one in found]


def slices(api: KubeApi) -> list[dict[str, Any]]:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    found: list[dict[str, Any]] = api.request("GET", path)[1]["items"]
    return found


def named(api: KubeApi, name: str) -> dict[str, Any] | None:
    return next((one for one in services(api) if one["metadata"]["name"] == name), None)


def get(api: KubeApi, raw: dict[str, Any]) -> dict[str, Any]:
    status, said = api.request("GET", path_of(raw))
    assert status == 200, said
    return dict(said)


def patch(api: KubeApi, raw: dict[str, Any], change: dict[str, Any]) -> None:
    merge = "application/merge-patch+json"
    status, said = api.request("PATCH", path_of(raw), change, merge)
    assert status == 200, said


def condition(api: KubeApi, raw: dict[str, Any], kind: str) -> tuple[str, str]:
    found = get(api, raw).get("status", {}).get("conditions", [])
    return next(((one["status"], one["reason"]) for one in found if one["type"] == kind), ("", ""))


def addresses(api: KubeApi, raw: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = get(api, raw).get("status", {}).get("addresses", [])
    return found


def labels(api: KubeApi, name: str) -> dict[str, str]:
    found = named(api, name)
    return {} if found is None else found["metadata"]["labels"]


async def test_a_gateway_has_a_service_and_what_it_leads_to(api: KubeApi) -> None:
    asked = {"labels": {"team": "a"}, "annotations": {"size": "big"}}
    api.apply(gateway(infrastructure=asked))
    async with replica(api):
        await eventually(lambda: slices(api))
        found = named(api, "g-generated")
        assert found is not None
        assert found["metadata"]["labels"]["team"] == "a"
        assert found["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] == "g"
        assert found["metadata"]["annotations"]["size"] == "big"
        assert found["metadata"]["ownerReferences"][0]["name"] == "g"
        await eventually(lambda: addresses(api, gateway()))
        (address,) = addresses(api, gateway())
        (slice_,) = slices(api)
        assert slice_["endpoints"][0]["addresses"] == [address["value"]]
        # what is not asked for any more goes
        api.apply(gateway(infrastructure={"labels": {"other": "b"}}))
        await eventually(lambda: labels(api, "g-generated").get("other") == "b")
        found = named(api, "g-generated")
        assert found is not None
        assert "team" not in found["metadata"]["labels"]
        assert "size" not in found["metadata"].get("annotations", {})


async def test_a_service_is_made_anew_with_the_address_that_is_asked_for(api: KubeApi) -> None:
    inside = {"routability": "Cluster"}
    api.apply(gateway(addresses=[inside]))
    async with replica(api) as one:
        await eventually(lambda: named(api, "g-generated"))
        before = named(api, "g-generated")
        assert before is not None
        assert before["spec"]["clusterIP"] != "10.96.200.7"
        api.apply(gateway(addresses=[inside | {"value": "10.96.200.7"}]))

        def made_anew() -> bool:
            now = named(api, "g-generated") or before
            return bool(now["spec"]["clusterIP"] == "10.96.200.7")

        await eventually(made_anew)
        # outside of the network of Services: what is there stays
        api.apply(gateway(addresses=[inside | {"value": "198.51.100.1"}]))
        await eventually(
            lambda: condition(api, gateway(), "AddressesAssigned") == ("False", "NotAssigned")
        )
        await one.idle()
        assert made_anew()


async def test_what_is_equal_is_not_written_by_the_next_leader_either(api: KubeApi) -> None:
    api.apply(gateway())
    async with replica(api) as first:
        await eventually(lambda: slices(api))
        await first.idle()
        assert first.objects.writes == 2
    before = [one["metadata"]["resourceVersion"] for one in [*services(api), *slices(api)]]
    async with replica(api, name="two") as second:
        await second.idle()
        assert second.objects.writes == 0
    assert [one["metadata"]["resourceVersion"] for one in [*services(api), *slices(api)]] == before


async def test_only_the_leader_writes(api: KubeApi) -> None:
    async with replica(api) as first:
        await first.idle()
        async with replica(api, name="two") as second:
            await second.world.synced.wait()
            api.apply(gateway())
            await eventually(lambda: slices(api))
            await first.idle()
            assert (first.objects.writes, second.objects.writes) == (2, 0)
            await first.stop()
            await eventually(lambda: second.writer.leads)
            patch(api, services(api)[0], {"spec": {"ports": [{"port": 81, "name": "x"}]}})
            await eventually(lambda: services(api)[0]["spec"]["ports"][0]["port"] == 80)


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"penstock.dev/generated-for": None}}},
        {"metadata": {"labels": {"gateway.networking.k8s.io/gateway-name": "x"}}},
        {"spec": {"ports": [{"port": 81, "name": "x", "protocol": "TCP"}]}},
        {
            "spec": {
                "ports": [
                    {"port": 80, "name": "tcp-80", "protocol": "TCP"},
                    {"port": 81, "name": "x", "protocol": "TCP"},
                ]
            }
        },
        {"spec": {"selector": {"app": "mine"}}},
        {"spec": {"type": "NodePort"}},
    ],
    ids=["our-label", "name", "port", "one-more-port", "selector", "type"],
)
async def test_what_others_change_is_mended(api: KubeApi, change: dict[str, Any]) -> None:
    api.apply(gateway())
    async with replica(api) as one:
        await eventually(lambda: slices(api))
        await one.idle()
        before = _without_traces(services(api)[0])
        patch(api, services(api)[0], change)
        await eventually(lambda: _without_traces(services(api)[0]) == before)
        # what they add stays
        patch(api, services(api)[0], {"metadata": {"annotations": {"theirs": "1"}}})
        await one.idle()
        assert services(api)[0]["metadata"]["annotations"]["theirs"] == "1"


def _without_traces(service: dict[str, Any]) -> dict[str, Any]:
    """Return what matters of a Service."""
    found = copy.deepcopy(service)
    for name in ("resourceVersion", "managedFields", "generation"):
        found["metadata"].pop(name, None)
    return found


async def test_what_somebody_deletes_comes_back(api: KubeApi) -> None:
    api.apply(gateway())
    async with replica(api):
        await eventually(lambda: slices(api))
        old = {one["metadata"]["uid"] for one in [*services(api), *slices(api)]}
        for one in [*services(api), *slices(api)]:
            api.delete({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **one})
        await eventually(lambda: services(api) and slices(api))
        await eventually(
            lambda: not old & {one["metadata"]["uid"] for one in [*services(api), *slices(api)]}
        )


async def test_a_users_own_service_is_not_touched_and_the_gateway_says_so(api: KubeApi) -> None:
    api.apply(users_service("g-generated"))
    before = get(api, users_service("g-generated"))
    api.apply(gateway())
    kind = "penstock.dev/ServiceGenerated"
    async with replica(api) as one:
        await eventually(lambda: condition(api, gateway(), kind) == ("False", "NameTaken"))
        await one.idle()
        assert get(api, users_service("g-generated")) == before
        api.delete(users_service("g-generated"))
        await eventually(lambda: labels(api, "g-generated").get("penstock.dev/generated-for"))
        await eventually(lambda: condition(api, gateway(), kind) == ("", ""))


async def test_what_the_server_refuses_is_told_with_its_words(api: KubeApi) -> None:
    hard = {"hard": {"services": "0"}}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": NAMESPACE},
        "spec": hard,
    }
    kind = "penstock.dev/ServiceGenerated"
    api.apply(quota)
    try:
        counted = quota | {"status": hard | {"used": {"services": "0"}}}
        path = f"{path_of(quota)}/status?fieldManager=tests&force=true"
        assert api.request("PATCH", path, counted, "application/apply-patch+yaml")[0] == 200
        api.apply(gateway(addresses=[{"routability": "Cluster"}]))
        async with replica(api):
            await eventually(lambda: condition(api, gateway(), kind) == ("False", "Refused"))
            found = get(api, gateway())["status"]["conditions"]
            (told,) = (one["message"] for one in found if one["type"] == "Programmed")
            assert told.startswith(f"the API server refuses Service {NAMESPACE}/g-generated: 403 ")
            assert "exceeded quota" in told
            api.delete(quota)
            await eventually(lambda: condition(api, gateway(), kind) == ("", ""))
            assert named(api, "g-generated")
    finally:
        api.delete(quota)


async def test_a_service_that_a_user_makes_at_the_same_moment_stays_the_users(
    api: KubeApi,
) -> None:
    api.apply(gateway())
    async with replica(api) as one:

        def before(call: Call) -> None:
            if call.method == "PATCH" and named(api, "g-generated") is None:
                api.apply(users_service("g-generated"))

        one.objects.before = before
        kind = "penstock.dev/ServiceGenerated"
        await eventually(lambda: condition(api, gateway(), kind) == ("False", "NameTaken"))
        await one.idle()
        found = get(api, users_service("g-generated"))
        assert found["metadata"]["labels"] == {"whose": "mine"}
        assert "ownerReferences" not in found["metadata"]
        assert [each["port"] for each in found["spec"]["ports"]] == [8080]
        assert {each["manager"] for each in found["metadata"]["managedFields"]} == {"tests"}


async def test_services_go_with_the_class_and_with_the_gateway(api: KubeApi) -> None:
    api.apply(gateway())
    api.apply(gateway("h"))
    async with replica(api):
        await eventually(lambda: len(slices(api)) == 2)
        api.apply(gateway(of="other"))
        await eventually(lambda: named(api, "g-other") and not named(api, "g-generated"))
        api.delete(gateway("h"))
        await eventually(lambda: not named(api, "h-generated"))
        api.apply(gateway_class("foreign", "someone.test/else"))
        api.apply(gateway(of="foreign"))
        await eventually(lambda: not services(api) and not slices(api))


async def test_what_nobody_wants_any_more_goes_when_a_controller_begins(api: KubeApi) -> None:
    api.apply(gateway())
    async with replica(api):
        await eventually(lambda: slices(api))
    api.delete(gateway())
    assert services(api)
    async with replica(api, name="two"):
        await eventually(lambda: not services(api) and not slices(api))


async def test_a_copy_that_a_user_made_with_our_labels_stays(api: KubeApi) -> None:
    api.apply(gateway())
    async with replica(api) as one:
        await eventually(lambda: slices(api))
        copied = users_service("copy")
        copied["metadata"]["labels"] = labels(api, "g-generated")
        api.apply(copied)
        api.delete(gateway())
        await eventually(lambda: named(api, "g-generated") is None)
        await one.idle()
        assert named(api, "copy")


@pytest.mark.parametrize("name", ["x" * 253, "1.a.test"])
async def test_every_name_of_a_gateway_works(api: KubeApi, name: str) -> None:
    if len(name) > 63:
        name = ".".join(name[at : at + 62] for at in range(0, 253, 63))[:253]
    api.apply(gateway(name))
    async with replica(api):
        await eventually(lambda: slices(api))
        await eventually(lambda: addresses(api, gateway(name)))


async def test_a_gateway_is_reached_where_the_cloud_says(api: KubeApi) -> None:
    cloud = Cloud(api, NAMESPACE)
    api.apply(gateway(infrastructure={"annotations": {"cloud.test/size": "big"}}))
    api.apply(gateway("named"))
    asked = [{"type": "IPAddress", "value": "203.0.113.77"}]
    api.apply(gateway("static", addresses=asked))
    async with replica(api, CLOUD) as one:
        await eventually(lambda: len(services(api)) == 3)
        await eventually(
            lambda: condition(api, gateway(), "Programmed") == ("False", "AddressNotAssigned")
        )
        cloud.work()
        await eventually(
            lambda: all(addresses(api, gateway(name)) for name in ("g", "named", "static"))
        )
        # no node has said yet that it serves it
        assert condition(api, gateway(), "Programmed") == ("False", "Pending")
        found = {name: addresses(api, gateway(name)) for name in ("g", "named", "static")}
        assert found["g"][0]["value"].startswith("203.0.113.")
        by_name = [(one["type"], one["value"]) for one in found["named"]]
        assert by_name == [("Hostname", "named-generated.cloud.test")]
        assert found["static"][0]["value"] == "203.0.113.77"
        assert cloud.asked["g-generated"]["cloud.test/size"] == "big"
        await one.idle()
        await eventually(lambda: len(slices(api)) == 3)
        for slice_ in slices(api):
            name = slice_["metadata"]["labels"]["kubernetes.io/service-name"]
            service = named(api, name)
            assert service is not None
            assert slice_["ports"][0]["port"] == service["spec"]["ports"][0]["nodePort"]
            assert slice_["endpoints"][0]["addresses"] == ["198.51.100.7"]
    # the cluster goes over to a pool: Services are no LoadBalancers any more
    async with replica(api, POOL, name="two"):
        await eventually(lambda: all(each["spec"]["type"] == "ClusterIP" for each in services(api)))
        await eventually(lambda: addresses(api, gateway())[0]["value"].startswith("192.0.2."))


async def test_ingresses_have_the_address_of_a_service_too(api: KubeApi) -> None:
    class_ = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "generated"},
        "spec": {"controller": "penstock.dev/ingress-controller"},
    }
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i", "namespace": NAMESPACE},
        "spec": {
            "ingressClassName": "generated",
            "defaultBackend": {"service": {"name": "b", "port": {"number": 80}}},
        },
    }
    api.apply(class_)
    api.apply(ingress)
    cloud = Cloud(api, NAMESPACE)

    def given() -> list[str]:
        entries = get(api, ingress)["status"]["loadBalancer"].get("ingress", [])
        return [one.get("ip", "") for one in entries]

    async with replica(api, CLOUD):
        await eventually(lambda: named(api, "ingress-generated"))
        cloud.work()
        await eventually(lambda: given() == ["203.0.113.1"])
        api.delete(ingress)
        await eventually(lambda: not services(api))
    api.delete(class_)
