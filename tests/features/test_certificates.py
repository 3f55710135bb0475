"""Certificates from objects to nodes: where keys go, what a change touches, what one bad costs."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.xds import types
from support import objects
from support.pki import issue, tls_secret_raw

NODES = ("n1", "n2", "n3")
POOL = Settings(reach=Reach.CLUSTER, gateway_pool="172.31.0.128/26")
AT_NODES = Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES)
Things = list[Object | Broken]


def secret(name: str = "cert", *names: str, namespace: str = "shop") -> Object | Broken:
    return objects.made(tls_secret_raw(name, namespace, [issue(*(names or ("a.test",)))]))


def https(name: str = "https", hostname: str = "a.test", cert: str = "cert") -> dict[str, Any]:
    tls = {"certificateRefs": [{"name": cert}]}
    return {"name": name, "port": 443, "protocol": "HTTPS", "hostname": hostname, "tls": tls}


def compiled(things: Things, settings: Settings | None = None) -> Compiler:
    compiler = Compiler(settings)
    compiler.apply(objects.added([objects.gateway_class(), *things]))
    assert compiler.failures == {}
    return compiler


def touched(compiler: Compiler, kind: EventType, thing: Object | Broken) -> set[str]:
    """Return "Type name" of what changes for any node, "-Type name" of what goes."""
    changes = compiler.apply([Event(kind, thing)])
    assert compiler.failures == {}
    found = {str(one.key) for change in changes for one in change.delta.upserts}
    return found | {f"-{key}" for change in changes for key in change.delta.removals}


def holders(compiler: Compiler, name: str = "tls|shop/cert") -> set[str]:
    return {
        node for node in NODES
        if any((one.type_url, one.name) == (types.SECRET, name) for one in compiler.resources(node))
    }  # fmt: skip


def conditions(compiler: Compiler, gateway: Object | Broken) -> dict[str, dict[str, str]]:
    """Return listener → type → reason of its conditions that are True or False."""
    status = status_of(compiler.db, gateway, lambda _: None)
    assert status is not None
    return {
        listener["name"]: {one["type"]: f"{one['status']} {one['reason']}"
                           for one in listener["conditions"]}
        for listener in status["listeners"]
    }  # fmt: skip


def test_a_renewed_certificate_is_one_resource() -> None:
    compiler = compiled([objects.gateway("gw", [https()]), secret()])
    assert touched(compiler, EventType.MODIFIED, secret()) == {"Secret tls|shop/cert"}


def test_a_secret_that_nobody_names_changes_nothing() -> None:
    compiler = compiled([objects.gateway("gw", [https()]), secret()])
    assert touched(compiler, EventType.ADDED, secret("other")) == set()
    assert touched(compiler, EventType.ADDED, secret(namespace="elsewhere")) == set()


def test_a_secret_that_goes_takes_its_key_and_its_chain_and_nothing_else() -> None:
    given = objects.gateway("gw", [https(), https("b", "b.test", "other")])
    compiler = compiled([given, secret(), secret("other")])
    assert touched(compiler, EventType.DELETED, secret()) == {
        "-Secret tls|shop/cert", "Listener gateway/shop/gw/443",
    }  # fmt: skip
    found = conditions(compiler, given)
    assert found["https"]["ResolvedRefs"] == "False InvalidCertificateRef"
    assert found["https"]["Programmed"] == "False Invalid"
    assert found["b"]["Programmed"] == "True Programmed"


def test_a_secret_that_cannot_be_decoded_is_no_certificate() -> None:
    given = objects.gateway("gw", [https()])
    broken = objects.made(
        {**tls_secret_raw("cert", "shop", [issue("a")]), "data": {"tls.crt": "*"}}
    )
    assert isinstance(broken, Broken)
    compiler = compiled([given, broken])
    assert holders(compiler) == set()
    assert conditions(compiler, given)["https"]["ResolvedRefs"] == "False InvalidCertificateRef"
    assert touched(compiler, EventType.MODIFIED, secret()) == {
        "Secret tls|shop/cert", "Listener gateway/shop/gw/443",
    }  # fmt: skip


def test_two_gateways_may_serve_with_one_secret() -> None:
    one, two = (objects.gateway(name, [https()]) for name in ("one", "two"))
    compiler = compiled([one, two, secret()])
    touched(compiler, EventType.DELETED, one)
    assert holders(compiler) == set(NODES)
    touched(compiler, EventType.DELETED, two)
    assert holders(compiler) == set()


def test_secrets_of_gateways_of_others_stay_where_they_are() -> None:
    compiler = compiled([objects.gateway("gw", [https()]), secret()])
    theirs = objects.gateway_class(controller="other.test/controller")
    assert "-Secret tls|shop/cert" in touched(compiler, EventType.MODIFIED, theirs)
    assert holders(compiler) == set()


def _cluster(*things: Object | Broken) -> Things:
    nodes = [objects.node(name, f"172.31.0.1{at}") for at, name in enumerate(NODES)]
    return [*nodes, *things]


def test_only_the_node_that_answers_for_a_gateway_gets_its_key() -> None:
    compiler = compiled(_cluster(objects.gateway("gw", [https()]), secret()), POOL)
    (owner,) = holders(compiler)
    gone = objects.node(owner, f"172.31.0.1{NODES.index(owner)}", ready=False)
    touched(compiler, EventType.MODIFIED, gone)
    (heir,) = holders(compiler)
    assert heir != owner


def test_with_addresses_of_nodes_the_keys_are_where_the_port_is_open() -> None:
    first, second = objects.gateway("a", [https()]), objects.gateway("b", [https(cert="other")])
    compiler = compiled(_cluster(first, second, secret(), secret("other")), AT_NODES)
    assert holders(compiler) == set(NODES)
    assert holders(compiler, "tls|shop/other") == set()
    touched(compiler, EventType.DELETED, first)
    assert holders(compiler) == set()
    assert holders(compiler, "tls|shop/other") == set(NODES)


@pytest.mark.parametrize(("days", "told"), [(-1, True), (0, False), (40, True)])
def test_a_certificate_out_of_date_is_told_when_time_passes(days: int, told: bool) -> None:  # noqa: FBT001
    begin = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    one = issue("a.test", begin=begin, end=begin + dt.timedelta(days=30))
    given = objects.gateway("gw", [https()])
    compiler = compiled([given, objects.made(tls_secret_raw("cert", "shop", [one]))])
    compiler.statuses.follow(given.ref)
    assert "CertificateNotValid" not in conditions(compiler, given)["https"]
    now = int((begin + dt.timedelta(days=days)).timestamp())
    assert compiler.tell_time(now) == ()
    assert ("CertificateNotValid" in conditions(compiler, given)["https"]) is told
    assert compiler.statuses.take() == ((given.ref,) if told else ())
