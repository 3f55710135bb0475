"""Listeners inside pods, without Envoy."""

from __future__ import annotations

import asyncio


class FakeListeners:
    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.answer = ""
        self.calls: list[str] = []
        self.lets_go = asyncio.Event()
        """Unset while Envoy still has listeners that were closed."""
        self.lets_go.set()

    def open(self, uid: str) -> None:
        self.opened.add(uid)
        self.calls.append(f"open {uid}")

    def close(self, uid: str) -> None:
        self.opened.discard(uid)
        self.calls.append(f"close {uid}")

    async def missing(self, uid: str) -> str:
        return self.answer if uid in self.opened else "not open"

    async def closed(self, uid: str) -> None:
        self.calls.append(f"closed {uid}")
        await self.lets_go.wait()
