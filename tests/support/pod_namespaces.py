"""Pods as network namespaces around one that is the world to them, where servers are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from support.namespaces import ip, linked


def join_pods(
    world: str, pods: Mapping[str, str], servers: Iterable[str], *, towards: str = "default"
) -> None:
    """Link pods to the *world*.

    Args:
        world: its namespace.
        pods: namespace → the pod's address, by which it goes *towards* a network.
        servers: addresses in the world.
        towards: that network.
    """
    for number, (pod, address) in enumerate(pods.items(), 1):
        linked(world, pod, (f"10.9.{number}.1", f"10.9.{number}.2"))
        ip("addr", "add", f"{address}/32", "dev", "lo", netns=pod)
        ip("route", "add", towards, "via", f"10.9.{number}.1", "src", address, netns=pod)
        ip("route", "add", f"{address}/32", "via", f"10.9.{number}.2", netns=world)
    for address in servers:
        ip("addr", "add", f"{address}/32", "dev", "lo", netns=world)


async def answer_with_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with the address that it comes from."""
    await reader.readuntil(b"\r\n\r\n")
    peer: tuple[str, int] = writer.get_extra_info("peername")
    head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(peer[0])}\r\n\r\n"
    writer.write((head + peer[0]).encode())
    await writer.drain()
    writer.close()
