"""Addresses that this node answers for: on its link, and announced to the neighbours.

The controller says which (`penstock.node.v1.Address`); every other node is told otherwise. What the
agent has added it knows again by a mark in the kernel, so a restart takes nothing away, and only
what the controller has withdrawn is removed.

A node that is cut off from the controllers is not told when another one takes over. So while no
controller is in touch it asks its neighbours, and an address for which somebody else answers leaves
the link: that node has it from a controller, or will ask, too. Of two that are both cut off one
asks first. While nobody answers any more it is here again. What a controller says next holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path

import structlog

from penstock.bpf.addresses import (
    IPAddress,
    LinkAddress,
    add_address,
    default_source,
    link_addresses,
    remove_address,
)
from penstock.bpf.errors import DatapathError
from penstock.bpf.neighbours import announce, answered_by_others
from penstock.meta.errors import PenstockError

MARK = 112
"""IFA_PROTO of the addresses that agents add; the kernel uses 1 to 3."""
ANNOUNCE_AFTER = (0.0, 1.0, 3.0)
"""Seconds after an address came here at which the neighbours are told."""
RETRY_SECONDS = 5.0
ASK_SECONDS = 0.5
"""How long answers of neighbours are waited for."""
SURE = 2
"""Times in a row that neighbours say the same before it is believed."""

log = structlog.get_logger(__name__)


class NodeAddressError(PenstockError):
    """An address cannot be on the node's link."""


class NodeAddresses:
    """The node's link, kept equal to what is wanted."""

    def __init__(
        self,
        netns: Path,
        own: tuple[IPAddress, ...],
        *,
        may_add: Callable[[], bool] = lambda: True,
        in_touch: Callable[[], bool] = lambda: True,
        retry: float = RETRY_SECONDS,
    ) -> None:
        """Change nothing yet.

        Args:
            netns: of the node.
            own: the node's own addresses, which say what the link is; without them it is that of
                the default route.
            may_add: tells whether somebody answers at addresses that come here now; those that
                are here stay in any case.
            in_touch: tells whether a controller would say that an address is another node's.
            retry: seconds, more or less, after which it is looked again.
        """
        self._in_touch = in_touch
        self._others: dict[IPAddress, int] = {}
        """How often in a row somebody else has answered; below 0: nobody."""
        self._yielded: set[IPAddress] = set()
        """What somebody else answers for, as long as no controller has said anything."""
        self._may_add = may_add
        self._waiting = False
        self._retry = retry
        self._netns = netns
        self._own = own
        self._wanted: frozenset[IPAddress] = frozenset()
        self._may_remove = False
        self._changed = asyncio.Event()
        self._announcing: dict[IPAddress, asyncio.Task[None]] = {}
        self.failures: dict[str, str] = {}
        """Address to why it is not on the link."""

    @property
    def present(self) -> frozenset[str]:
        """Return what agents have put on the node's links, as text."""
        return frozenset(str(one.address) for one in self._ours())

    def want(self, addresses: AbstractSet[str]) -> None:
        """Let exactly these be here, soon."""
        wanted = frozenset(map(ipaddress.ip_address, addresses))
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    def look_again(self) -> None:
        """Take that *may_add* may say something else now."""
        if self._waiting:
            self._changed.set()

    def may_remove(self) -> None:
        """Take that the controller has said everything: what it does not name is withdrawn."""
        self._may_remove = True
        self._changed.set()

    def told(self) -> None:
        """Take that a controller has just said which addresses are ours."""
        self._others.clear()
        if self._yielded:
            self._yielded.clear()
            self._changed.set()

    async def run(self) -> None:
        """Work until cancelled; addresses stay."""
        try:
            while True:
                self._changed.clear()
                if not self._in_touch():
                    await self._ask_neighbours()
                self._converge()
                # Not in step with another node that is cut off.
                pause = self._retry * (0.5 + random.random())  # noqa: S311 - jitter
                try:
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._announcing.values():
                task.cancel()

    async def _ask_neighbours(self) -> None:
        """Ask who answers for what is wanted here, and note what is somebody else's."""
        links: dict[int, set[IPAddress]] = {}
        for address in self._wanted:
            with contextlib.suppress(PenstockError):  # told when it is added
                links.setdefault(self._interface(address), set()).add(address)
        for interface, addresses in links.items():
            try:
                answered = await asyncio.to_thread(
                    answered_by_others, self._netns, interface, addresses, ASK_SECONDS
                )
                if not self._in_touch():
                    self._judge(addresses, answered)
            except DatapathError as error:
                log.warning("neighbours not asked for addresses", reason=str(error))

    def _judge(self, asked: set[IPAddress], answered: AbstractSet[IPAddress]) -> None:
        present = self.present
        for address in asked & self._wanted:
            before = self._others.get(address, 0)
            said = max(before, 0) + 1 if address in answered else min(before, 0) - 1
            self._others[address] = said
            if address in self._yielded and said <= -SURE:
                log.warning("no other node answers for an address any more", address=str(address))
                self._yielded.discard(address)
            elif address not in self._yielded and said >= (SURE if str(address) in present else 1):
                log.warning(
                    "another node answers for an address, and no controller is in touch; it is "
                    "left to that node", address=str(address),
                )  # fmt: skip
                self._yielded.add(address)

    def _converge(self) -> None:
        try:
            present = {one.address: one for one in self._ours()}
        except DatapathError as error:
            log.warning("addresses of the node not read", reason=str(error))
            return
        missing = sorted(self._wanted - self._yielded - present.keys(), key=str)
        self._waiting = bool(missing) and not self._may_add()
        for address in () if self._waiting else missing:
            self._try(address, self._add)
        for address in sorted(present.keys() - (self._wanted - self._yielded), key=str):
            if self._may_remove or address in self._yielded:
                self._try(address, lambda gone: self._remove(present[gone]))

    def _ours(self) -> list[LinkAddress]:
        return [one for one in link_addresses(self._netns) if one.protocol == MARK]

    def _try(self, address: IPAddress, change: Callable[[IPAddress], None]) -> None:
        try:
            change(address)
        except PenstockError as error:
            if self.failures.get(str(address)) != str(error):
                log.warning("address not changed", address=str(address), reason=str(error))
            self.failures[str(address)] = str(error)
        else:
            self.failures.pop(str(address), None)

    def _add(self, address: IPAddress) -> None:
        interface = self._interface(address)
        add_address(self._netns, interface, address, MARK)
        log.info("address added", address=str(address), interface=interface)
        self._stop_announcing(address)
        task = asyncio.get_running_loop().create_task(self._announce(interface, address))
        self._announcing[address] = task

    def _remove(self, gone: LinkAddress) -> None:
        self._stop_announcing(gone.address)
        remove_address(self._netns, gone.interface, gone.address)
        log.info("address removed", address=str(gone.address), interface=gone.interface)

    def _stop_announcing(self, address: IPAddress) -> None:
        if task := self._announcing.pop(address, None):
            task.cancel()

    def _interface(self, address: IPAddress) -> int:
        """Return the index of the link on which the node has its own address.

        Raises:
            NodeAddressError: there is none.
        """
        own = [*self._own] or [source for source in (default_source(self._netns),) if source]
        links = link_addresses(self._netns)
        same_family_first = sorted(own, key=lambda one: one.version != address.version)
        for mine in same_family_first:
            for link in links:
                if link.address == mine:
                    return link.interface
        sought = " or ".join(map(str, own)) or "a default route"
        raise NodeAddressError(
            f"{address}: no link of the node has {sought}; name the node's own address by --node-ip"
        )

    async def _announce(self, interface: int, address: IPAddress) -> None:
        """Tell the neighbours several times: one of the packets may be lost."""
        before = 0.0
        for after in ANNOUNCE_AFTER:
            await asyncio.sleep(after - before)
            before = after
            try:
                announce(self._netns, interface, address)
            except DatapathError as error:
                log.warning("address not announced", address=str(address), reason=str(error))
