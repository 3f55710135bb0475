"""POST /v1/join: who gets a certificate, who does not, and what a stranger can cause."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509

from penstock.controlplane import join
from penstock.controlplane.authority_store import FolderStore
from penstock.controlplane.join import Joining
from penstock.controlplane.join_tokens import (
    EitherTokens,
    GivenToken,
    JoinRefusedError,
    ReviewedTokens,
    Tokens,
)
from penstock.controlplane.trust import Trust
from penstock.meta.names import NamespacedName
from penstock.sources.kubernetes.connection import Answer, Call, UnreachableError
from support.fake_clock import FakeClock
from support.nodes import new_key, request_pem, running

TOKEN = "0123456789abcdef-given"  # noqa: S105  # of this test
AGENT = "system:serviceaccount:penstock-system:penstock-agent"


class ApiServer:
    """Answers TokenReviews with what a test says."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.user = AGENT
        self.node: str | None = "n1"
        self.authenticated = True
        self.audiences = ["penstock"]
        self.status = 201
        self.away = False

    async def ask(self, call: Call) -> Answer:
        if self.away:
            raise UnreachableError("no connection")
        self.asked.append(call)
        extra = {"authentication.kubernetes.io/node-name": [self.node]} if self.node else {}
        user = {"username": self.user, "extra": extra}
        status = {"authenticated": self.authenticated, "audiences": self.audiences, "user": user}
        return Answer(status=self.status, body={"status": status, "message": "said"})


def reviewed(api: ApiServer) -> ReviewedTokens:
    return ReviewedTokens(api.ask, NamespacedName("penstock-system", "penstock-agent"), "penstock")


async def holder(tokens: Tokens, token: str = "t", node: str = "n1") -> str | tuple[int, str]:  # noqa: S107  # of this test
    try:
        return await tokens.holder(token, node)
    except JoinRefusedError as error:
        return int(error.status), error.reason


async def test_a_token_is_reviewed_for_our_audience() -> None:
    api = ApiServer()
    assert await holder(reviewed(api), "abc") == AGENT
    assert api.asked == [
        Call(
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": "abc", "audiences": ["penstock"]},
            },
        )
    ]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"authenticated": False}, 401, "does not know"),
        ({"audiences": ["https://kubernetes.default.svc"]}, 401, "audience 'penstock'"),
        ({"user": "system:serviceaccount:shop:default"}, 403, "shop:default is not"),
        ({"node": "n2"}, 403, "a Pod on n2, not on n1"),
        ({"node": None}, 403, "no node"),
        ({"status": 403}, 503, "tokenreviews"),
        ({"away": True}, 503, "no connection"),
    ],
)
async def test_tokens_that_do_not_let_this_node_in(
    change: dict[str, Any], status: int, words: str
) -> None:
    api = ApiServer()
    for name, value in change.items():
        setattr(api, name, value)
    said = await holder(reviewed(api))
    assert said[0] == status
    assert words in said[1]


async def test_a_given_token_is_read_each_time_and_must_be_long(tmp_path: Path) -> None:
    file = tmp_path / "token"
    tokens = GivenToken(file)
    assert (await holder(tokens, TOKEN))[0] == 503
    file.write_text("short")
    assert (await holder(tokens, "short"))[0] == 503
    file.write_text(f"{TOKEN}\n")
    assert await holder(tokens, TOKEN, "any") == "the token in token"
    assert (await holder(tokens, TOKEN[:-1]))[0] == 401


async def test_what_is_not_the_given_token_is_reviewed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    api = ApiServer()
    tokens = EitherTokens(GivenToken(tmp_path / "token"), reviewed(api))
    assert await holder(tokens, TOKEN) == "the token in token"
    assert api.asked == []
    assert await holder(tokens, "another") == AGENT


class Server:
    def __init__(self, client: Any, joining: Joining) -> None:
        self.client = client
        self.joining = joining

    async def post(self, body: object, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.client.post("/v1/join", data=content, headers=headers) as response:
            return response.status, await response.json()


@contextlib.asynccontextmanager
async def serving(folder: Path, clock: FakeClock | None = None) -> AsyncGenerator[Server]:
    clock = clock or FakeClock()
    store = FolderStore(folder / "ca")
    trust = Trust(store, clock, lambda: 0.5, names=["c"], trust_domain="cluster.local")
    (folder / "token").write_text(TOKEN)
    joining = Joining(trust, GivenToken(folder / "token"), clock, "cluster.local")
    async with running(trust.run()):
        await trust.ready.wait()
        async with TestClient(TestServer(joining.application())) as client:
            yield Server(client, joining)


def asked(node: str = "n1", csr: bytes | None = None) -> dict[str, str]:
    return {"node": node, "csr": (request_pem(new_key()) if csr is None else csr).decode()}


async def test_a_node_with_the_token_gets_its_certificate(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        status, said = await server.post(asked("n1.example"))
    assert status == HTTPStatus.OK
    leaf = x509.load_pem_x509_certificate(said["certificate"].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["spiffe://cluster.local/penstock/node/n1.example"]
    assert server.joining.counts == {"accepted": 1}


@pytest.mark.parametrize(
    ("body", "token", "status", "words"),
    [
        (asked(), "", 401, "Authorization"),
        (asked(), "wrong", 401, "not the join token"),
        (b"{", TOKEN, 400, "not a join request"),
        (b"\xff", TOKEN, 400, "not a join request"),
        ({"node": "n1"}, TOKEN, 400, "csr"),
        (asked("../n1"), TOKEN, 400, "no name of a node"),
        (asked("N1"), TOKEN, 400, "no name of a node"),
        (asked("n1\n"), TOKEN, 400, "no name of a node"),
        (asked(csr=b"x"), TOKEN, 400, "no PEM"),
        (b" " * 9_000, TOKEN, 413, "too long"),
    ],
)
async def test_requests_that_are_refused_say_why(
    tmp_path: Path, body: object, token: str, status: int, words: str
) -> None:
    async with serving(tmp_path) as server:
        answer = await server.post(body, token)
    assert answer[0] == status
    assert words in answer[1]["error"]
    assert server.joining.counts == {"refused": 1}


async def test_requests_in_a_second_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "BURST", 2.0)
    monkeypatch.setattr(join, "RATE", 1.0)
    clock = FakeClock()
    async with serving(tmp_path, clock) as server:
        statuses = [(await server.post(asked()))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
        clock.advance(1.0)
        assert (await server.post(asked()))[0] == 200
    assert server.joining.counts == {"accepted": 3, "busy": 1}
