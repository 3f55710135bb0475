"""What older kernels refuse, in the sources of the programs."""

from __future__ import annotations

import re

from penstock.bpf.build import SOURCES

_GLOBAL = re.compile(
    r"^__attribute__\(\(noinline\)\) \w+ (?P<name>\w+)\([^)]*?\*(?P<given>\w+)\)\n\{"
    r"(?P<body>.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
_KEY = re.compile(r"bpf_map_\w+_elem\(\s*&?\w+,\s*(?P<key>[^,)]+)")


def _global_functions() -> list[re.Match[str]]:
    """Return the functions that the verifier checks by themselves, by what they are given."""
    sources = sorted((SOURCES / "progs").glob("*.h"))
    return [one for file in sources for one in _GLOBAL.finditer(file.read_text("utf-8"))]


def test_keys_of_maps_are_not_in_memory_that_a_global_function_is_given() -> None:
    """Linux before 6.2 refuses them ("R2 type=mem expected=fp"), and the whole object with them."""
    found = _global_functions()
    assert {one["name"] for one in found} >= {"policy_judge", "service_pick", "service_is_closed"}
    taken = [
        f"{one['name']}: {key['key']}"
        for one in found
        for key in _KEY.finditer(one["body"])
        if re.match(rf"&?{one['given']}\b", key["key"])
    ]
    assert taken == []
