"""Addresses that a node answers for: on a real link, seen from its other end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from penstock.agent.node_addresses import MARK, NodeAddresses
from penstock.bpf.addresses import (
    add_address,
    default_source,
    host_addresses,
    link_addresses,
    remove_address,
)
from penstock.bpf.errors import DatapathError
from penstock.bpf.namespaces import socket_in
from penstock.bpf.neighbours import announce, answered_by_others
from support.topology import Place, Topology

Address = IPv4Address | IPv6Address
POOL4, POOL6 = IPv4Address("172.31.0.130"), IPv6Address("fd31::130")
ETH_P_ALL = 3
ARP, IPV6 = b"\x08\x06", b"\x86\xdd"


@pytest.fixture
def place(topology: Topology) -> Place:
    """A namespace with eth0, whose other end is in the node's namespace."""
    found = topology.pods["other"]
    for link in link_addresses(found.netns):
        if link.protocol == MARK:
            remove_address(found.netns, link.interface, link.address)
    return found


def marked(place: Place) -> set[str]:
    return {str(one.address) for one in link_addresses(place.netns) if one.protocol == MARK}


@contextlib.asynccontextmanager
async def working(addresses: NodeAddresses) -> AsyncGenerator[None]:
    task = asyncio.create_task(addresses.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - the kernel has no event for it
            await asyncio.sleep(0.01)


def own(place: Place) -> tuple[IPv4Address | IPv6Address, ...]:
    return (place.ipv4, place.ipv6)


async def test_wanted_addresses_are_on_the_link_of_the_nodes_own_address(place: Place) -> None:
    addresses = NodeAddresses(place.netns, own(place))
    interface = next(
        one.interface for one in link_addresses(place.netns) if one.address == place.ipv4
    )
    async with working(addresses):
        addresses.want({str(POOL4), str(POOL6)})
        await until(lambda: marked(place) == {str(POOL4), str(POOL6)})
    found = {one.address: one.interface for one in link_addresses(place.netns)}
    assert (found[POOL4], found[POOL6]) == (interface, interface)
    assert addresses.present == {str(POOL4), str(POOL6)}


async def test_addresses_outlive_the_agent_and_a_new_one_knows_them(place: Place) -> None:
    first = NodeAddresses(place.netns, own(place))
    async with working(first):
        first.want({str(POOL4)})
        await until(lambda: marked(place) == {str(POOL4)})
    second = NodeAddresses(place.netns, own(place))
    async with working(second):
        second.want({str(POOL6)})
        await until(lambda: str(POOL6) in marked(place))
        assert str(POOL4) in marked(place), "the controller has not said everything yet"
        second.may_remove()
        await until(lambda: marked(place) == {str(POOL6)})
    assert str(place.ipv4) in host_addresses(place.netns)


async def test_an_address_that_is_withdrawn_is_removed(place: Place) -> None:
    addresses = NodeAddresses(place.netns, own(place))
    async with working(addresses):
        addresses.may_remove()
        addresses.want({str(POOL4)})
        await until(lambda: marked(place) == {str(POOL4)})
        addresses.want(set())
        await until(lambda: marked(place) == set())


async def test_an_address_that_others_took_away_comes_back(place: Place) -> None:
    addresses = NodeAddresses(place.netns, own(place), retry=0.05)
    async with working(addresses):
        addresses.want({str(POOL4)})
        await until(lambda: marked(place) == {str(POOL4)})
        (there,) = (one for one in link_addresses(place.netns) if one.protocol == MARK)
        remove_address(place.netns, there.interface, there.address)
        await until(lambda: marked(place) == {str(POOL4)})


async def test_without_a_link_for_it_an_address_is_told_as_failure(place: Place) -> None:
    addresses = NodeAddresses(place.netns, (IPv4Address("192.0.2.77"),))
    async with working(addresses):
        addresses.want({str(POOL4)})
        await until(lambda: "192.0.2.77" in addresses.failures.get(str(POOL4), ""))


def test_neighbours_are_told_by_arp_in_both_forms(topology: Topology, place: Place) -> None:
    interface = link_of(place, place.ipv4)
    with sniffer(topology) as packets:
        announce(place.netns, interface, POOL4)
        frames = list(itertools.islice(received(packets, ARP), 2))
    operations = {int.from_bytes(frame[20:22]) for frame in frames}
    assert operations == {1, 2}
    for frame in frames:
        assert frame[:6] == b"\xff" * 6
        sender, target = frame[28:32], frame[38:42]
        assert ipaddress.ip_address(sender) == ipaddress.ip_address(target) == POOL4
        assert frame[22:28] == frame[6:12]


def test_neighbours_are_told_by_an_unsolicited_advertisement(
    topology: Topology, place: Place
) -> None:
    interface = link_of(place, place.ipv4)
    add_address(place.netns, interface, POOL6, MARK)
    with sniffer(topology) as packets:
        announce(place.netns, interface, POOL6)
        seen = received(packets, IPV6)
        frame = next(one for one in seen if one[54] == 136 and POOL6.packed in one)
    assert frame[21] == 255, "hop limit"
    assert int.from_bytes(frame[58:62]) == 0x2000_0000, "override, not solicited"
    assert ipaddress.ip_address(frame[62:78]) == POOL6
    assert frame[78:80] == b"\x02\x01"
    assert frame[80:86] == frame[6:12]


def test_adding_twice_equals_once_and_removing_twice_too(place: Place) -> None:
    interface = link_of(place, place.ipv4)
    for _ in range(2):
        add_address(place.netns, interface, POOL4, MARK)
    assert marked(place) == {str(POOL4)}
    for _ in range(2):
        remove_address(place.netns, interface, POOL4)
    assert marked(place) == set()


def test_an_interface_that_is_not_there_is_an_error(place: Place) -> None:
    with pytest.raises(DatapathError, match="interface 4711"):
        add_address(place.netns, 4711, POOL4, MARK)
    with pytest.raises(DatapathError, match="announce"):
        announce(place.netns, 4711, POOL4)


def test_the_default_route_says_what_the_nodes_own_address_is(
    topology: Topology, place: Place
) -> None:
    assert default_source(place.netns) == place.ipv4
    assert default_source(topology.node.netns) is None


def link_of(place: Place, address: IPv4Address) -> int:
    return next(one.interface for one in link_addresses(place.netns) if one.address == address)


def sniffer(topology: Topology) -> socket.socket:
    made = socket_in(
        topology.node.netns, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)
    )
    made.settimeout(5)
    return made


def received(packets: socket.socket, kind: bytes) -> Iterator[bytes]:
    """Yield frames of a kind as they come."""
    while True:
        frame = packets.recv(2048)
        if frame[12:14] == kind:
            yield frame


async def test_an_address_comes_only_when_somebody_answers_at_it(place: Place) -> None:
    served = False
    addresses = NodeAddresses(place.netns, own(place), may_add=lambda: served)
    async with working(addresses):
        addresses.want({str(POOL4)})
        await asyncio.sleep(0.05)
        assert marked(place) == set()
        served = True
        addresses.look_again()
        await until(lambda: marked(place) == {str(POOL4)})
        served = False
        addresses.look_again()
        addresses.want({str(POOL4), str(POOL6)})
        await asyncio.sleep(0.05)
        assert marked(place) == {str(POOL4)}


@contextlib.contextmanager
def at_the_neighbour(topology: Topology, place: Place, *addresses: Address) -> Generator[None]:
    """Let the other end of the link have addresses."""
    link = f"veth{list(topology.pods.values()).index(place) + 1}"

    def ip(words: str) -> None:
        command = ["nsenter", f"--net={topology.node.netns}", "ip", *words.split()]
        subprocess.run(command, check=True)

    for address in addresses:
        more = " nodad" if address.version == 6 else ""
        ip(f"address add {address}/{address.max_prefixlen} dev {link}{more}")
    try:
        yield
    finally:
        for address in addresses:
            ip(f"address delete {address}/{address.max_prefixlen} dev {link}")
        # With the last IPv4 address of a link the kernel takes all IPv4 routes over it away.
        ip(f"route replace {place.ipv4}/32 dev {link}")


def test_neighbours_say_which_addresses_they_have(topology: Topology, place: Place) -> None:
    interface = link_of(place, place.ipv4)
    pool: tuple[Address, ...] = (POOL4, POOL6)
    for address in pool:
        add_address(place.netns, interface, address, MARK)
    assert answered_by_others(place.netns, interface, pool, 0.3) == set()
    with at_the_neighbour(topology, place, *pool):
        assert answered_by_others(place.netns, interface, pool, 0.3) == set(pool)
        assert answered_by_others(place.netns, interface, [POOL4], 0.3) == {POOL4}
    with pytest.raises(DatapathError, match="ask for addresses on interface 4711"):
        answered_by_others(place.netns, 4711, pool, 0.3)


@pytest.fixture
def second_link(topology: Topology, place: Place) -> Iterator[None]:
    """Let the namespace have another link to the same neighbours."""
    first = f"veth{list(topology.pods.values()).index(place) + 1}"

    def ip(where: Path, words: str) -> None:
        subprocess.run(["nsenter", f"--net={where}", "ip", *words.split()], check=True)

    node = topology.node.netns
    try:
        ip(node, f"link add second type veth peer name eth1 netns {place.netns.name}")
        ip(node, "link add both type bridge")
        for link in (first, "second"):
            ip(node, f"link set {link} master both up")
        ip(node, "link set both up")
        ip(place.netns, "link set eth1 up")
        yield
    finally:
        ip(node, f"link set {first} nomaster")
        ip(node, "link delete both")
        ip(node, "link delete second")
        ip(node, f"route replace {place.ipv4}/32 dev {first}")


@pytest.mark.usefixtures("second_link")
def test_what_the_node_answers_on_another_link_of_it_is_its_own(place: Place) -> None:
    interface = link_of(place, place.ipv4)
    add_address(place.netns, interface, POOL4, MARK)
    with socket_in(place.netns, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as seen:
        seen.settimeout(5)
        for _ in range(20):  # a bridge lets frames through some time after its links are up
            assert answered_by_others(place.netns, interface, [POOL4], 0.2) == set()
            if any(answer_of(POOL4, frame) for frame in waiting(seen)):
                return
    pytest.fail("nothing came from the other link")


def answer_of(address: IPv4Address, frame: bytes) -> bool:
    return frame[12:14] == ARP and frame[20:22] == b"\0\2" and frame[28:32] == address.packed


def waiting(packets: socket.socket) -> Iterator[bytes]:
    """Yield the frames that have come already."""
    with contextlib.suppress(BlockingIOError):
        while True:
            yield packets.recv(2048, socket.MSG_DONTWAIT)


def test_neighbours_are_asked_by_a_process_with_many_open_files(place: Place) -> None:
    interface = link_of(place, place.ipv4)
    with contextlib.ExitStack() as many, Path("/dev/null").open("rb") as file:
        for _ in range(1100):
            many.callback(os.close, os.dup(file.fileno()))
        assert answered_by_others(place.netns, interface, [POOL4], 0.1) == set()


async def test_a_node_that_is_cut_off_leaves_an_address_to_who_answers_for_it(
    topology: Topology, place: Place
) -> None:
    in_touch = True
    addresses = NodeAddresses(place.netns, own(place), in_touch=lambda: in_touch, retry=0.1)
    async with working(addresses):
        addresses.want({str(POOL4), str(POOL6)})
        await until(lambda: marked(place) == {str(POOL4), str(POOL6)})
        with at_the_neighbour(topology, place, POOL4):
            await asyncio.sleep(0.5)
            assert str(POOL4) in marked(place), "the controller knows better"
            in_touch = False
            await until(lambda: marked(place) == {str(POOL6)})
            in_touch = True
            await asyncio.sleep(0.3)
            assert marked(place) == {str(POOL6)}, "the controller has not said anything yet"
            addresses.told()
            await until(lambda: marked(place) == {str(POOL4), str(POOL6)})


async def test_a_namespace_that_cannot_be_read_for_a_moment_is_read_again(
    place: Place, tmp_path: Path
) -> None:
    netns = tmp_path / "net"
    netns.symlink_to(place.netns)
    looks = 0

    def in_touch() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:  # the neighbours have been asked, and their answers are looked at
            netns.unlink()
        return False

    addresses = NodeAddresses(netns, own(place), in_touch=in_touch, retry=0.1)
    async with working(addresses):
        addresses.want({str(POOL4)})
        await until(lambda: looks > 2)
        netns.symlink_to(place.netns)
        await until(lambda: marked(place) == {str(POOL4)})


async def test_an_address_for_which_nobody_answers_any_more_comes_back(
    topology: Topology, place: Place
) -> None:
    addresses = NodeAddresses(place.netns, own(place), in_touch=lambda: False, retry=0.1)
    async with working(addresses):
        with at_the_neighbour(topology, place, POOL6):
            addresses.want({str(POOL4), str(POOL6)})
            await until(lambda: marked(place) == {str(POOL4)})
        await until(lambda: marked(place) == {str(POOL4), str(POOL6)})
