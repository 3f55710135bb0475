"""What comes out of fuzzed objects passes the real Envoy's own validation."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import CompiledEnvoy, compiled_envoy
from support.fuzzed import GOOD, Json, Things, some
from support.ingress_objects import ingress_class
from support.ingress_strategies import some_ingress
from support.objects import added, endpoint_slice, made, service
from support.pki import issue, tls_secret_raw

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as running:
        yield running


_PATIENT = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@_PATIENT
@given(things=some())
async def test_envoy_takes_whatever_is_compiled(envoy: CompiledEnvoy, things: Things) -> None:
    compiler = Compiler()
    compiler.apply(added([*GOOD, *things]))
    # A listener whose unix sockets change cannot take over those that stay.
    await envoy.run([])
    await envoy.run(compiler.resources("n1"))


_TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["(", "[a-", ".*", "a{1,1000}", "(a{900}){900}", "(?i)x", "\\", "%", "/a|b", "é", "a\r\nb"]
    ),
    st.sampled_from(["GET", "/a", "/a/[0-9]+", "web.test", "X-Token: 1", "X-Token", "b" * 3000]),
)
_HTTP_RULES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "method": _TEXTS,
            "path": _TEXTS,
            "host": _TEXTS,
            "headers": st.lists(_TEXTS, max_size=2),
            "headerMatches": st.lists(
                st.fixed_dictionaries(
                    {"name": _TEXTS},
                    optional={
                        "value": _TEXTS,
                        "mismatch": st.sampled_from(["LOG", "ADD", "DELETE"]),
                    },
                ),
                max_size=2,
            ),
        },
    ),
    max_size=3,
)
_SERVED = [
    objects.service("web", "10.96.1.1"),
    objects.endpoint_slice("web", ["10.244.0.1"]),
    objects.pod("web-0", "10.244.0.1", {"app": "web"}),
    objects.pod("client-0", "10.244.0.2", {"app": "client"}),
]


@_PATIENT
@given(inward=_HTTP_RULES, outward=_HTTP_RULES)
async def test_envoy_takes_whatever_policies_say_of_requests(
    envoy: CompiledEnvoy, inward: list[Json], outward: list[Json]
) -> None:
    ports = [{"port": "8080", "protocol": "TCP"}]
    spec: Json = {
        "endpointSelector": {},
        "ingress": [
            {"fromEndpoints": [{}], "toPorts": [{"ports": ports, "rules": {"http": inward}}]}
        ],
        "egress": [
            {"toEndpoints": [{}], "toPorts": [{"ports": ports, "rules": {"http": outward}}]}
        ],
    }
    compiler = Compiler()
    compiler.apply(added([*_SERVED, objects.policy("p", spec)]))
    assert compiler.failures == {}
    await envoy.run([])
    await envoy.run(compiler.resources("n1"))


_BESIDE = [
    ingress_class(),
    service("one", "10.96.1.1"),
    endpoint_slice("one", ["10.244.0.1"]),
    made(
        tls_secret_raw("cert", "shop", [issue("a.test")])
        | {"stringData": {"ca.crt": issue("authority").pem}}
    ),
]


@_PATIENT
@given(first=some_ingress("a"), second=some_ingress("b"))
async def test_envoy_takes_whatever_ingresses_mean(
    envoy: CompiledEnvoy, first: Object | Broken, second: Object | Broken
) -> None:
    compiler = Compiler()
    compiler.apply(added([*_BESIDE, first, second]))
    assert compiler.failures == {}
    await envoy.run([])
    await envoy.run(compiler.resources("n1"))
