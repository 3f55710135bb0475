"""The Python mirror of abi.h against what the compiler says about the header."""

from __future__ import annotations

import ctypes
import enum
import json
import re
import shutil
import subprocess
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from penstock.bpf import abi
from penstock.bpf.build import SOURCES
from penstock.ir.policy import Direction, Reserved, Verdict

HEADER = SOURCES / "include" / "penstock" / "abi.h"

CONSTANTS: dict[str, int] = {
    name: getattr(abi, name)
    for name in (
        "ABI_VERSION",
        "EGRESS_PORT",
        "INGRESS_PORT",
        "HBONE_PORT",
        "MARK_APP_LEG",
        "MARK_POLICED",
        "MARK_POLICED_GATEWAY",
        "MARK_GATEWAY",
        "MARK_UNREAD",
        "MAX_BACKENDS",
        "MAX_BACKENDS_JUDGED",
        "UID_SIZE",
        "COMM_SIZE",
        "CONFIG_EVENTS_REDIRECTED",
        "POD_UNPOLICED",
        "SERVICE_PROXY",
        "SERVICE_ROUTED",
        "SERVICE_STAY_SHIFT",
        "NAMESPACE_SIZE",
    )
}


def enumerators(prefix: str, members: type[enum.IntEnum]) -> dict[str, int]:
    return {f"{prefix}_{member.name}": member.value for member in members}


ENUMERATORS: dict[str, int] = {
    **enumerators("EVENT", abi.EventKind),
    **enumerators("REASON", abi.Reason),
    **enumerators("COUNTER", abi.Counter),
    **enumerators("DIRECTION", Direction),
    **enumerators("VERDICT", Verdict),
    **{f"IDENTITY_{r.name}": r.value for r in Reserved if r.name in {"ANY", "HOST", "WORLD"}},
    "IDENTITY_INGRESS": Reserved.INGRESS,
    "VERDICT_DEFAULT": 0,
    "COUNTER_COUNT": len(abi.Counter),
}


def program() -> str:
    """Return C that prints sizes, offsets and constants as JSON."""
    items: list[tuple[str, str]] = []
    for name, struct in abi.STRUCTS.items():
        items.append((name, f"sizeof(struct {name})"))
        items += [
            (f"{name}.{field}", f"__builtin_offsetof(struct {name}, {c_name(struct, field)})")
            for field in names(struct)
        ]
    items += [(name, name) for name in (*CONSTANTS, *ENUMERATORS)]
    lines = [
        f'printf("\\"{key}\\": %llu,\\n", (unsigned long long)({value}));' for key, value in items
    ]
    return "\n".join(
        [
            "#include <stdio.h>",
            f'#include "{HEADER}"',
            "int main(void) {",
            'printf("{\\n");',
            *lines,
            'printf("\\"end\\": 0}\\n");',
            "return 0; }",
        ]
    )


def names(struct: type[abi.Layout]) -> list[str]:
    return [field[0] for field in struct._fields_]


def c_name(struct: type[abi.Layout], field: str) -> str:
    return "word" if struct is abi.Address and field == "octets" else field


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    compiler = shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("abi")
    source, binary = folder / "abi.c", folder / "abi"
    source.write_text(program(), "ascii")
    subprocess.run([compiler, "-Wall", "-Werror", str(source), "-o", str(binary)], check=True)
    done = subprocess.run([str(binary)], check=True, capture_output=True)
    measured: dict[str, int] = json.loads(done.stdout)
    return measured


@pytest.mark.parametrize("name", abi.STRUCTS)
def test_size_and_every_offset_equal_those_of_the_compiler(
    name: str, compiled: dict[str, int]
) -> None:
    struct = abi.STRUCTS[name]
    assert ctypes.sizeof(struct) == compiled[name]
    offsets: dict[str, Any] = {field: getattr(struct, field).offset for field in names(struct)}
    assert offsets == {field: compiled[f"{name}.{field}"] for field in offsets}


def test_numbers_equal_those_of_the_header(compiled: dict[str, int]) -> None:
    for name, value in {**CONSTANTS, **ENUMERATORS}.items():
        assert value == compiled[name], name


def test_every_struct_and_enumerator_of_the_header_is_mirrored() -> None:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text("utf-8"), flags=re.DOTALL)
    assert set(re.findall(r"^struct (\w+) \{", text, re.MULTILINE)) == set(abi.STRUCTS)
    assert set(re.findall(r"^\t([A-Z][A-Z0-9_]+) =", text, re.MULTILINE)) == set(ENUMERATORS)
    defined = set(re.findall(r"^#define ([A-Z0-9_]+) ", text, re.MULTILINE))
    assert defined - {"MARK_BASE", "MARK_MASK"} == set(CONSTANTS)


def test_every_field_is_mirrored_in_the_same_order() -> None:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text("utf-8"), flags=re.DOTALL)
    for name, struct in abi.STRUCTS.items():
        (body,) = re.findall(rf"^struct {name} \{{(.*?)^\}};", text, re.MULTILINE | re.DOTALL)
        fields = re.findall(r"(\w+)(?:\[\w+\])?;", body)
        assert fields == [c_name(struct, field) for field in names(struct)], name


@pytest.mark.parametrize(
    "address", [IPv4Address("10.1.2.3"), IPv6Address("fd00::1"), IPv6Address("::")]
)
def test_address_survives_the_round_trip(address: abi.IPAddress) -> None:
    assert abi.Address.of(address).ip == address


def test_ipv4_address_is_mapped() -> None:
    raw = bytes(abi.Address.of(IPv4Address("10.1.2.3")))
    assert raw == bytes(10) + b"\xff\xff\x0a\x01\x02\x03"
    assert bytes(abi.Address.of(None)) == bytes(16)
