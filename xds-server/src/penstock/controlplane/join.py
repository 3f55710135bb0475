"""POST /v1/join: a certificate for a node that proves which one it is.

The port is open to whoever reaches it, so what a stranger can cause is bounded: the size of what is
read, the time it takes, how much is judged at once and in a second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import web

from penstock.ads.join import JoinAnswer, JoinRequest
from penstock.ca.authority import AuthorityError, RequestError, read_request, utc
from penstock.controlplane.join_tokens import JoinRefusedError, Tokens
from penstock.controlplane.trust import Trust
from penstock.meta.clock import Clock
from penstock.meta.node_identity import JOIN_PATH, is_node_name

LARGEST_BODY = 8 << 10
"""Bytes; a request is some 500."""
BODY_SECONDS = 10.0
AT_ONCE = 8
"""Tokens that are judged together."""
WAITING = 1_000
"""Requests that wait for that."""
RATE, BURST = 100.0, 1_000.0
"""Requests in a second on average, and at once."""
_BEARER = "Bearer "
_log = structlog.get_logger("penstock.join")


class Joining:
    """Judges and signs."""

    def __init__(self, trust: Trust, tokens: Tokens, clock: Clock, trust_domain: str) -> None:
        """Sign with the authority of *trust* for those that *tokens* knows."""
        self._trust = trust
        self._tokens = tokens
        self._clock = clock
        self._trust_domain = trust_domain
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._here = 0
        self._left = BURST
        self._left_at = clock.monotonic()
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many requests were "accepted", "refused" and put off as "busy"."""
        return self._counts

    def application(self) -> web.Application:
        """Return the HTTP application."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.add_routes([web.post(JOIN_PATH, self._post)])
        return app

    async def _post(self, request: web.Request) -> web.Response:
        if not self._may_come():
            self._counts["busy"] += 1
            return web.json_response(
                {"error": "too many nodes join at this moment; come again"},
                status=HTTPStatus.TOO_MANY_REQUESTS,
                headers={"Retry-After": "5"},
            )
        self._here += 1
        try:
            asked, token = await _read(request)
            async with self._turns:
                return await self._answer(request, asked, token)
        except JoinRefusedError as error:
            self._counts["refused"] += 1
            _log.warning("join refused", peer=request.remote, reason=error.reason)
            return web.json_response({"error": error.reason}, status=error.status)
        finally:
            self._here -= 1

    async def _answer(self, request: web.Request, asked: JoinRequest, token: str) -> web.Response:
        try:
            signing = read_request(asked.csr.encode())
        except RequestError as error:
            raise JoinRefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        holder = await self._tokens.holder(token, asked.node)
        now = utc(self._clock.now())
        try:
            issued = self._trust.authority.sign_node(signing, asked.node, self._trust_domain, now)
        except AuthorityError as error:
            raise JoinRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        self._counts["accepted"] += 1
        _log.info(
            "node joined", node=asked.node, by=holder, peer=request.remote,
            serial=issued.serial, ends=str(issued.ends),
        )  # fmt: skip
        answer = JoinAnswer(issued.certificate.decode())
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    def _may_come(self) -> bool:
        now = self._clock.monotonic()
        self._left = min(BURST, self._left + (now - self._left_at) * RATE)
        self._left_at = now
        if self._left < 1 or self._here >= WAITING:
            return False
        self._left -= 1
        return True


async def _read(request: web.Request) -> tuple[JoinRequest, str]:
    """Return what is asked for, and the token.

    Raises:
        JoinRefusedError: it is not understood.
    """
    said = request.headers.get("Authorization", "")
    token = said.removeprefix(_BEARER).strip()
    if not said.startswith(_BEARER) or not token.isascii() or not token:
        raise JoinRefusedError(HTTPStatus.UNAUTHORIZED, "there is no `Authorization: Bearer …`")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            asked = msgspec.json.decode(await request.read(), type=JoinRequest)
    except web.HTTPRequestEntityTooLarge as error:
        raise JoinRefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JoinRefusedError(HTTPStatus.BAD_REQUEST, f"not a join request: {error}") from error
    except TimeoutError as error:
        raise JoinRefusedError(HTTPStatus.REQUEST_TIMEOUT, "too slow") from error
    if not is_node_name(asked.node):
        raise JoinRefusedError(HTTPStatus.BAD_REQUEST, f"{asked.node!r} is no name of a node")
    return asked, token
