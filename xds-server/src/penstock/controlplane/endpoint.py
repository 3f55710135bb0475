"""What this controller serves on the network: ADS and joining behind TLS, health, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Mapping

import aiohttp
import structlog
from aiohttp import web

from penstock.ads.peers import CertifiedNodes
from penstock.ads.server import SYNC_SECONDS, AdsServer
from penstock.controlplane import health
from penstock.controlplane.authority_store import Ask, AuthorityStore, ClusterStore, FolderStore
from penstock.controlplane.join import Joining
from penstock.controlplane.join_tokens import EitherTokens, GivenToken, ReviewedTokens, Tokens
from penstock.controlplane.metrics import Metrics
from penstock.controlplane.network import EndpointError, Network, split_address
from penstock.controlplane.trust import Trust
from penstock.controlplane.world import World
from penstock.meta.clock import Clock
from penstock.meta.node_identity import CONTROLLER_NAME
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.connection import Answer, ApiServer, Call

CALL_SECONDS = 10.0
KEEPALIVE_SECONDS = 15.0
_log = structlog.get_logger("penstock.controller")


class Endpoint:
    """Everything that nodes and the kubelet reach over TCP."""

    def __init__(self, network: Network, world: World, metrics: Metrics, clock: Clock) -> None:
        """Serve nothing yet."""
        self._network = network
        self._world = world
        self._metrics = metrics
        self._clock = clock
        self._stopping = False
        self._serving = not network.ads_address
        acks = world.acknowledgements
        self._ads = AdsServer(
            world,
            clock,
            hooks=acks,
            on_report=acks.on_report,
            on_silence=acks.on_silence,
            peers=CertifiedNodes(network.trust_domain),
            sync_seconds=SYNC_SECONDS,
        )

    def missing(self) -> list[str]:
        """Return what keeps this controller from serving nodes."""
        reasons = {
            "this controller is ending": self._stopping,
            "not everything is known yet": not self._world.synced.is_set(),
            "there is no certificate yet": not self._serving,
        }
        return [reason for reason, holds in reasons.items() if holds]

    async def run(self, access: Access | None, environment: Mapping[str, str]) -> None:
        """Serve until cancelled.

        Args:
            access: the API server with the authority and the tokens, if it is needed.
            environment: what a credential plugin of *access* is started with.

        Raises:
            PenstockError: an address cannot be used.
        """
        network = self._network
        async with contextlib.AsyncExitStack() as stack:
            if network.metrics_address:
                app = health.application(self._metrics.registry, self.missing)
                await stack.enter_async_context(_site(app, network.metrics_address, None))
            if not network.ads_address:
                await asyncio.Event().wait()
            ask = await stack.enter_async_context(_asking(access, environment, self._clock))
            trust = self._trust(ask)
            keeping = asyncio.create_task(trust.run())
            serving = asyncio.create_task(self._serve(trust, ask))
            try:
                await asyncio.wait({keeping, serving}, return_when=asyncio.FIRST_COMPLETED)
                for task in (keeping, serving):
                    if task.done():
                        task.result()
            finally:
                keeping.cancel()
                serving.cancel()
                await asyncio.gather(keeping, serving, return_exceptions=True)

    async def drain(self) -> None:
        """Have nodes go elsewhere: not ready first, and when that is known, streams end."""
        self._stopping = True
        if self._network.ads_address and self._serving:
            await self._clock.sleep(self._network.drain)
            await self._ads.stop()

    async def _serve(self, trust: Trust, ask: Ask | None) -> None:
        network = self._network
        await trust.ready.wait()
        async with contextlib.AsyncExitStack() as stack:
            await self._ads.start_tls(network.ads_address, trust.credentials())
            stack.push_async_callback(self._ads.stop)
            tokens = self._tokens(ask)
            if network.join_address and tokens is not None:
                joining = Joining(trust, tokens, self._clock, network.trust_domain)
                self._metrics.joins = lambda: joining.counts
                place = _site(joining.application(), network.join_address, trust)
                await stack.enter_async_context(place)
            self._serving = True
            _log.info("serving nodes", ads=network.ads_address, join=network.join_address)
            while True:
                await trust.changed()
                if not self._stopping:
                    await self._ads.start_tls(network.ads_address, trust.credentials())

    def _trust(self, ask: Ask | None) -> Trust:
        network = self._network
        store: AuthorityStore
        if network.authority_folder is not None:
            store = FolderStore(network.authority_folder)
        elif ask is not None:
            store = ClusterStore(ask, network.namespace)
        else:
            raise EndpointError("without an API server, --ads-address needs --ca-dir")
        service = f"{CONTROLLER_NAME}.{network.namespace}"
        names = (CONTROLLER_NAME, service, f"{service}.svc", f"{service}.svc.cluster.local")
        return Trust(
            store,
            self._clock,
            random.random,
            names=(*names, *network.names),
            trust_domain=network.trust_domain,
        )

    def _tokens(self, ask: Ask | None) -> Tokens | None:
        network = self._network
        given = None if network.join_token_file is None else GivenToken(network.join_token_file)
        if ask is None or network.join_account is None:
            return given
        reviewed = ReviewedTokens(ask, network.join_account, network.join_audience)
        return reviewed if given is None else EitherTokens(given, reviewed)


@contextlib.asynccontextmanager
async def _asking(
    access: Access | None, environment: Mapping[str, str], clock: Clock
) -> AsyncGenerator[Ask | None]:
    """Yield what makes requests to the API server, None if there is none."""
    if access is None:
        yield None
        return
    server = ApiServer(access, clock, environment)
    session: aiohttp.ClientSession
    async with server.session() as session:

        async def ask(call: Call) -> Answer:
            return await server.call(session, call, CALL_SECONDS)

        yield ask


@contextlib.asynccontextmanager
async def _site(app: web.Application, address: str, trust: Trust | None) -> AsyncGenerator[None]:
    """Serve *app* on *address* meanwhile.

    Raises:
        EndpointError: the address cannot be used.
    """
    host, port = split_address(address)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS)
    try:
        await runner.setup()
        context = None if trust is None else trust.context
        try:
            await web.TCPSite(runner, host, port, ssl_context=context).start()
        except OSError as error:
            raise EndpointError(f"cannot listen on {address}: {error}") from error
        yield
    finally:
        await runner.cleanup()
