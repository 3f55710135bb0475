"""What HTTPS listeners of golden cases do to real handshakes and requests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.kinds import Secret
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.resources import ReferenceGrant
from penstock.xds import types
from support import golden, objects
from support.compiled_envoy import (
    ROUTE_HEADER,
    CompiledEnvoy,
    Surroundings,
    compiled_envoy,
    socket_name,
)
from support.http_backend import http_backend, seen
from support.objects import made
from support.pki import issue, tls_secret_raw
from support.raw_http import Answer
from support.tls_client import HandshakeRefusedError, client_context, tls_connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASE = "gateway-https"
FRONT, PLAIN, ALONE = "gateway/shop/front/443", "gateway/shop/front/80", "gateway/shop/front/9443"
H2, H1 = ("h2", "http/1.1"), ("http/1.1",)


class Lab:
    def __init__(self, envoy: CompiledEnvoy, around: Surroundings) -> None:
        self.envoy, self.around = envoy, around

    async def show(self, case: golden.Case) -> None:
        await self.envoy.run(case.resources, self.around)

    def at(self, listener: str = FRONT) -> Path:
        return self.envoy.folder / socket_name(listener)

    async def ask(
        self, server_name: str, host: str, path: str = "/", alpn: tuple[str, ...] = H2
    ) -> Answer:
        async with tls_connection(self.at(), server_name, client_context(alpn)) as connection:
            return await connection.ask(host, path)

    async def certificate(self, server_name: str, listener: str = FRONT) -> set[str]:
        """Return the names in the certificate that a server name is answered with."""
        async with tls_connection(self.at(listener), server_name) as connection:
            shown = x509.load_der_x509_certificate(connection.certificate)
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return set(names.get_values_for_type(x509.DNSName))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with (
        http_backend("one") as one,
        compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy,
    ):
        yield Lab(envoy, Surroundings(endpoints={"10.244.0.1": one}))


@pytest.mark.parametrize(
    ("server_name", "names"),
    [
        ("a.test", {"a.test", "*.test"}),
        ("unknown.test", {"a.test", "*.test"}),
        ("", {"a.test", "*.test"}),
        ("second.test", {"second.test"}),
        ("SECOND.test", {"second.test"}),
        ("x.wild.test", {"*.wild.test"}),
        ("y.x.wild.test", {"*.wild.test"}),
        ("wild.test", {"a.test", "*.test"}),
        ("granted.test", {"granted.test"}),
    ],
)
async def test_the_server_name_chooses_the_listener_and_its_certificate(
    lab: Lab, server_name: str, names: set[str]
) -> None:
    await lab.show(golden.compiled(CASE))
    assert await lab.certificate(server_name) == names


@pytest.mark.parametrize("server_name", ["denied.test", "missing.test", "mismatched.test"])
async def test_a_listener_without_a_certificate_refuses_and_no_other_steps_in(
    lab: Lab, server_name: str
) -> None:
    await lab.show(golden.compiled(CASE))
    with pytest.raises(HandshakeRefusedError):
        await lab.certificate(server_name)
    assert (await lab.ask("a.test", "a.test")).status == 200


async def test_a_server_name_that_no_listener_has_is_refused(lab: Lab) -> None:
    await lab.show(golden.compiled(CASE))
    assert await lab.certificate("alone.test", ALONE) == {"a.test", "*.test"}
    for server_name in ("a.test", ""):
        with pytest.raises(HandshakeRefusedError):
            await lab.certificate(server_name, ALONE)


@pytest.mark.parametrize("alpn", [H2, H1, ()])
@pytest.mark.parametrize(
    ("asked", "status", "route"),
    [
        (("a.test", "a.test"), 200, "shop/any/0/0"),
        (("a.test", "A.Test:443"), 200, "shop/any/0/0"),
        (("a.test", "second.test"), 421, "misdirected"),
        (("a.test", "Second.Test"), 421, "misdirected"),
        (("a.test", "unknown.test"), 404, ""),
        (("unknown.test", "a.test"), 200, "shop/any/0/0"),
        (("unknown.test", "unknown.test"), 404, ""),
        (("second.test", "second.test"), 200, "shop/second/0/0"),
        (("second.test", "second.test:443"), 200, "shop/second/0/0"),
        (("second.test", "a.test"), 421, "misdirected"),
        (("second.test", "unknown.test"), 421, "misdirected"),
        (("third.wild.test", "third.wild.test"), 200, "shop/wild/0/0"),
        (("third.wild.test", "fifth.wild.test"), 200, "shop/wild/0/0"),
        (("third.wild.test", "fourth.wild.test"), 421, "misdirected"),
        (("third.wild.test", "second.test"), 421, "misdirected"),
        (("third.wild.test", "unknown.test"), 421, "misdirected"),
        (("fourth.wild.test", "fourth.wild.test"), 200, "shop/fourth/0/0"),
        (("fourth.wild.test", "fifth.wild.test"), 421, "misdirected"),
        (("silent.test", "silent.test"), 404, "not-found"),
        (("a.test", "silent.test"), 421, "misdirected"),
        (("a.test", "denied.test"), 421, "misdirected"),
    ],
)
async def test_a_request_on_the_connection_of_another_listener_is_misdirected(
    lab: Lab, asked: tuple[str, str], status: int, route: str, alpn: tuple[str, ...]
) -> None:
    await lab.show(golden.compiled(CASE))
    answer = await lab.ask(*asked, alpn=alpn)
    assert (answer.status, answer.header(ROUTE_HEADER)) == (status, route)


async def test_a_host_cannot_name_the_listener(lab: Lab) -> None:
    await lab.show(golden.compiled(CASE))
    assert (await lab.ask("second.test", "a.test:@any", alpn=H1)).status == 421
    assert (await lab.ask("second.test", "a.test:@any", alpn=H2)).status in (0, 400)


async def test_a_path_that_a_listener_has_not_is_not_taken_from_another(lab: Lab) -> None:
    await lab.show(golden.compiled(CASE))
    assert (await lab.ask("a.test", "nobody.test", "/every")).status == 200
    assert (await lab.ask("silent.test", "silent.test", "/every")).status == 404


async def test_both_protocols_are_offered_and_none_below_tls_1_2(lab: Lab) -> None:
    await lab.show(golden.compiled(CASE))
    for offered, chosen in ((H2, "h2"), (H1, "http/1.1"), ((), None)):
        async with tls_connection(lab.at(), "a.test", client_context(offered)) as connection:
            assert connection.tls.selected_alpn_protocol() == chosen
            assert connection.tls.version() == "TLSv1.3"
    older = client_context(H1, ssl.TLSVersion.TLSv1_2)
    async with tls_connection(lab.at(), "a.test", older) as connection:
        assert connection.tls.version() == "TLSv1.2"
    oldest = client_context(H1, ssl.TLSVersion.TLSv1_1)
    with pytest.raises(HandshakeRefusedError, match="alert protocol version"):
        async with tls_connection(lab.at(), "a.test", oldest):
            pass


async def test_a_backend_sees_the_scheme_and_nothing_of_ours(lab: Lab) -> None:
    await lab.show(golden.compiled(CASE))
    found = seen(await lab.ask("a.test", "a.test"))
    assert found.all("x-forwarded-proto") == ["https"]
    assert found.all("x-penstock-scope") == []


async def test_redirects_name_no_port_that_goes_without_saying(lab: Lab) -> None:
    await lab.show(golden.compiled(CASE))
    plain = await lab.envoy.ask(PLAIN, "/x", host="a.test")
    assert (plain.status, plain.header("location")) == (301, "https://a.test/x")
    moved = await lab.ask("second.test", "second.test", "/old")
    assert (moved.status, moved.header("location")) == (302, "https://second.test/new")


async def test_plain_http_on_an_https_port_gets_nothing(lab: Lab) -> None:
    await lab.show(golden.compiled(CASE))
    with contextlib.suppress(ConnectionResetError):
        assert (await lab.envoy.ask(FRONT, "/")).status == 0


async def test_envoy_shows_no_key(lab: Lab) -> None:
    case = golden.compiled(CASE)
    await lab.show(case)
    dump = json.dumps(await lab.envoy.admin("/config_dump"))
    secrets = [one for one in case.objects if isinstance(one, Secret)]
    assert secrets
    for one in secrets:
        key = one.files()["tls.key"]
        assert key.decode().splitlines()[1] not in dump
        assert base64.b64encode(key).decode()[40:80] not in dump
    assert base64.b64encode(b"[redacted]").decode() in dump


# Secrets come and go


async def test_a_renewed_certificate_changes_no_listener_and_cuts_no_connection(lab: Lab) -> None:
    case = golden.compiled(CASE)
    await lab.show(case)
    before = {one.name: one.version for one in case.resources if one.type_url == types.LISTENER}
    async with tls_connection(lab.at(), "second.test", client_context(H2)) as old:
        assert (await old.ask("second.test")).status == 200
        renewed = issue("second.test", "renewed.test")
        secret = made(tls_secret_raw("second", "shop", [renewed]))
        case.compiler.apply([Event(EventType.MODIFIED, secret)])
        await lab.show(case)
        assert await lab.certificate("second.test") == {"second.test", "renewed.test"}
        assert await lab.certificate("a.test") == {"a.test", "*.test"}
        assert (await old.ask("second.test")).status == 200
    after = {one.name: one.version for one in case.resources if one.type_url == types.LISTENER}
    assert before == after


async def test_a_certificate_that_comes_late_opens_its_listener(lab: Lab) -> None:
    case = golden.compiled(CASE)
    await lab.show(case)
    async with tls_connection(lab.at(), "a.test", client_context(H2)) as other:
        secret = made(tls_secret_raw("nowhere", "shop", [issue("missing.test")]))
        case.compiler.apply([Event(EventType.ADDED, secret)])
        await lab.show(case)
        assert await lab.certificate("missing.test") == {"missing.test"}
        assert (await other.ask("a.test")).status == 200
        case.compiler.apply([Event(EventType.DELETED, secret)])
        await lab.show(case)
        with pytest.raises(HandshakeRefusedError):
            await lab.certificate("missing.test")
        assert (await other.ask("a.test")).status == 200


async def test_a_grant_that_is_taken_back_closes_the_listener_and_takes_the_key_away(
    lab: Lab,
) -> None:
    case = golden.compiled(CASE)
    await lab.show(case)
    assert await lab.certificate("granted.test") == {"granted.test"}
    grant = next(one for one in case.objects if isinstance(one, ReferenceGrant))
    case.compiler.apply([Event(EventType.DELETED, grant)])
    assert not any("granted" in one.name for one in case.resources if one.type_url == types.SECRET)
    await lab.show(case)
    with pytest.raises(HandshakeRefusedError):
        await lab.certificate("granted.test")
    await _forgotten(lab, "tls|certs/granted")
    case.compiler.apply([Event(EventType.ADDED, grant)])
    await lab.show(case)
    assert await lab.certificate("granted.test") == {"granted.test"}


async def test_a_key_is_gone_at_once_while_its_connections_go_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    case = golden.compiled(CASE)
    grant = next(one for one in case.objects if isinstance(one, ReferenceGrant))
    async with _slow_to_drain(tmp_path_factory.mktemp("e")) as fresh:
        await fresh.show(case)
        before = await _secrets(fresh)
        async with tls_connection(fresh.at(), "granted.test", client_context(H2)) as old:
            case.compiler.apply([Event(EventType.DELETED, grant)])
            await fresh.show(case)
            after = await _secrets(fresh)
            assert {name for name in before if after[name] != before[name]} == {"tls|certs/granted"}
            with pytest.raises(HandshakeRefusedError):
                await fresh.certificate("granted.test")
            case.compiler.apply([Event(EventType.ADDED, grant)])
            await fresh.show(case)
            assert await fresh.certificate("granted.test") == {"granted.test"}
            assert await _secrets(fresh) == before
            assert (await old.ask("granted.test")).status == 200


async def test_a_listener_that_gets_another_secret_shows_one_of_the_two_all_the_time(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    issued = [issue("a.test"), issue("a.test")]
    secrets = [tls_secret_raw(f"s{at}", "shop", [one]) for at, one in enumerate(issued)]

    def gateway(at: int) -> Object | Broken:
        tls = {"certificateRefs": [{"name": f"s{at}"}]}
        listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}
        return objects.gateway("gw", [listener])

    compiler, shown = Compiler(), set[bytes]()
    compiler.apply(objects.added([objects.gateway_class(), gateway(0), *map(made, secrets)]))
    async with _slow_to_drain(tmp_path_factory.mktemp("e")) as fresh:
        at = fresh.at("gateway/shop/gw/443")
        await fresh.envoy.run(compiler.resources(""), fresh.around)

        async def look() -> None:
            while True:
                async with tls_connection(at, "a.test") as connection:
                    shown.add(connection.certificate)

        looking = asyncio.create_task(look())
        for turn in range(1, 31):
            compiler.apply([Event(EventType.MODIFIED, gateway(turn % 2))])
            await fresh.envoy.run(compiler.resources(""), fresh.around)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
    assert shown == {one.der for one in issued}


@contextlib.asynccontextmanager
async def _slow_to_drain(folder: Path) -> AsyncGenerator[Lab]:
    """Run an Envoy of its own, in which connections outlive their filter chain."""
    async with http_backend("one") as one, compiled_envoy(folder) as envoy:
        yield Lab(envoy, Surroundings(endpoints={"10.244.0.1": one}))


async def _secrets(lab: Lab) -> dict[str, Any]:
    """Return the certificates that Envoy has, by the name of the Secret."""
    dump = await lab.envoy.admin("/config_dump?resource=dynamic_active_secrets")
    return {one["name"]: one["secret"]["tls_certificate"] for one in dump["configs"]}


async def test_an_agent_that_lost_its_keys_closes_nothing_that_runs(lab: Lab) -> None:
    case = golden.compiled(CASE)
    await lab.show(case)
    without = [one for one in case.resources if one.type_url != types.SECRET]
    await lab.envoy.run(without, lab.around)
    assert await lab.certificate("a.test") == {"a.test", "*.test"}
    await lab.show(case)
    assert await lab.certificate("a.test") == {"a.test", "*.test"}


async def test_an_envoy_without_keys_serves_what_needs_none_and_waits_for_the_rest(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    case = golden.compiled(CASE)
    without = [one for one in case.resources if one.type_url != types.SECRET]
    async with (
        http_backend("one") as one,
        compiled_envoy(tmp_path_factory.mktemp("e")) as envoy,
    ):
        fresh = Lab(envoy, Surroundings(endpoints={"10.244.0.1": one}))
        await envoy.run(without, fresh.around)
        assert (await envoy.ask(PLAIN, "/x", host="a.test")).status == 301
        with pytest.raises(HandshakeRefusedError):
            await fresh.certificate("a.test")
        await fresh.show(case)
        assert await fresh.certificate("a.test") == {"a.test", "*.test"}


async def test_a_listener_with_several_certificates_chooses_what_the_client_can_check(
    lab: Lab,
) -> None:
    curve = issue("a.test", "curve.test")
    classic = issue("a.test", "classic.test", key=rsa.generate_private_key(65537, 2048))
    elsewhere = issue("b.test")
    references = [{"name": name} for name in ("curve", "classic", "elsewhere")]
    https = {"name": "https", "port": 443, "protocol": "HTTPS"}
    listener = https | {"tls": {"certificateRefs": references}}
    secrets = [
        tls_secret_raw(name, "shop", [one])
        for name, one in (("curve", curve), ("classic", classic), ("elsewhere", elsewhere))
    ]
    compiler = Compiler()
    things = [objects.gateway_class(), objects.gateway("gw", [listener]), *map(made, secrets)]
    compiler.apply(objects.added(things))
    await lab.envoy.run(compiler.resources(""), lab.around)
    at = lab.at("gateway/shop/gw/443")
    old = client_context(only=ssl.TLSVersion.TLSv1_2)
    old.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    for name, context, shown in (
        ("a.test", client_context(), curve),
        ("a.test", old, classic),
        ("b.test", client_context(), elsewhere),
    ):
        async with tls_connection(at, name, context) as connection:
            assert connection.certificate == shown.der


async def _forgotten(lab: Lab, name: str) -> None:
    """Wait until Envoy does not have a secret any more, which it keeps while chains drain."""
    while True:
        dump = await lab.envoy.admin("/config_dump?resource=dynamic_active_secrets")
        if name not in {one["name"] for one in dump["configs"]}:
            return
        await asyncio.sleep(0.05)
