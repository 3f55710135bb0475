"""The authority that replicas share, and the certificate that each makes for itself."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from penstock.ca.authority import CA_LIFE, Authority, utc
from penstock.controlplane.authority_store import FolderStore
from penstock.controlplane.trust import LOOK_SECONDS, Trust
from support.fake_clock import FakeClock
from support.nodes import running
from support.real_envoy import eventually


@contextlib.asynccontextmanager
async def keeping(folder: Path, clock: FakeClock) -> AsyncGenerator[Trust]:
    store = FolderStore(folder)
    trust = Trust(store, clock, lambda: 0.5, names=["c"], trust_domain="cluster.local")
    async with running(trust.run()):
        await trust.ready.wait()
        yield trust


async def kept(folder: Path) -> Authority:
    found = await FolderStore(folder).read()
    assert found is not None
    return found


async def look(clock: FakeClock, seconds: float = LOOK_SECONDS) -> None:
    """Let time pass and the look that is due then end."""
    await eventually(lambda: clock.sleepers > 0)
    before = clock.sleepers
    clock.advance(seconds)
    await eventually(lambda: clock.sleepers == before)


async def test_replicas_have_one_authority(tmp_path: Path) -> None:
    clock = FakeClock()
    async with keeping(tmp_path / "ca", clock) as one, keeping(tmp_path / "ca", clock) as two:
        assert one.authority.keys() == two.authority.keys()


async def test_first_ones_that_start_together_agree(tmp_path: Path) -> None:
    clock = FakeClock()
    stores = [FolderStore(tmp_path / "ca") for _ in range(4)]
    trusts = [
        Trust(store, clock, lambda: 0.5, names=["c"], trust_domain="cluster.local")
        for store in stores
    ]
    async with contextlib.AsyncExitStack() as stack:
        for trust in trusts:
            await stack.enter_async_context(running(trust.run()))
        await asyncio.gather(*(trust.ready.wait() for trust in trusts))
        assert len({trust.authority.keys() for trust in trusts}) == 1


async def test_the_key_is_for_its_owner_only_and_the_certificate_is_published(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ca"
    clock = FakeClock()
    async with keeping(folder, clock) as trust:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "ca.pem").stat().st_mode) == 0o600
        bundle = (folder / "ca.crt").read_bytes()
        assert b"PRIVATE" not in bundle
        assert bundle == trust.authority.certificates(utc(clock.now()))
        assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "ca.pem"]


async def test_an_authority_that_was_deleted_is_put_back(tmp_path: Path) -> None:
    folder, clock = tmp_path / "ca", FakeClock()
    async with keeping(folder, clock) as trust:
        keys = trust.authority.keys()
        for path in folder.iterdir():
            path.unlink()
        await look(clock)
        assert (await kept(folder)).keys() == keys
        assert (folder / "ca.crt").exists()


async def test_what_is_broken_is_not_overwritten_and_what_is_known_stays(tmp_path: Path) -> None:
    folder, clock = tmp_path / "ca", FakeClock()
    async with keeping(folder, clock) as trust:
        keys = trust.authority.keys()
        (folder / "ca.pem").write_text("broken")
        await look(clock)
        assert (folder / "ca.pem").read_text() == "broken"
        assert trust.authority.keys() == keys


async def test_an_old_authority_gets_a_second_pair_and_both_are_published(tmp_path: Path) -> None:
    folder, clock = tmp_path / "ca", FakeClock()
    async with keeping(folder, clock) as trust:
        first = trust.authority.keys()
        await look(clock, (CA_LIFE * 0.7).total_seconds())
        assert trust.authority.keys().startswith(first)
        assert len(x509.load_pem_x509_certificates((folder / "ca.crt").read_bytes())) == 2


async def test_own_certificate_is_replaced_in_time(tmp_path: Path) -> None:
    folder, clock = tmp_path / "ca", FakeClock()
    async with keeping(folder, clock) as trust:
        before = trust.renew
        await look(clock)
        assert trust.renew == before
        await look(clock, timedelta(hours=17).total_seconds())
        assert trust.renew != before
