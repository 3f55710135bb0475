"""Numbers of Kubernetes namespaces in the kernel: what pods of one reach may differ from the rest.

Numbers outlive the agent as the maps do that have them, and so do the names that they are for.
"""

from __future__ import annotations

from collections.abc import Collection

from penstock.bpf.abi import NAMESPACE_SIZE, Index, NamespaceName
from penstock.bpf.errors import DatapathError
from penstock.bpf.maps import BpfMap

_LARGEST = 0xFFFF


class NamespaceTable:
    """The only writer of the map."""

    def __init__(self, namespace_map: BpfMap[NamespaceName, Index]) -> None:
        """Read what the map holds."""
        self._map = namespace_map
        self._numbers = {key.name.decode(): value.value for key, value in namespace_map.items()}
        self._names = {number: name for name, number in self._numbers.items()}

    def number(self, name: str) -> int:
        """Return the number of a namespace, a new one if it has none; "" is 0.

        Raises:
            DatapathError: the name is too long, or all numbers are taken.
        """
        if not name:
            return 0
        known = self._numbers.get(name)
        return self._add(name) if known is None else known

    def _add(self, name: str) -> int:
        if len(name.encode()) >= NAMESPACE_SIZE:
            raise DatapathError(f"namespace {name}: has more than {NAMESPACE_SIZE - 1} bytes")
        # One that was given back just now may be on its way through a program.
        after = max(self._names, default=0) + 1
        free = range(1, _LARGEST + 1) if after > _LARGEST else range(after, after + 1)
        number = next((one for one in free if one not in self._names), None)
        if number is None:
            raise DatapathError(f"namespace {name}: {_LARGEST} have a number, no more can")
        self._map.put(NamespaceName(name=name.encode()), Index(value=number))
        self._numbers[name], self._names[number] = number, name
        return number

    def name(self, number: int) -> str:
        """Return the namespace with a number; "" for 0, and for one that nobody has."""
        return self._names.get(number, "")

    def keep(self, names: Collection[str]) -> None:
        """Take the numbers of all others back; no map may have them any more."""
        for name in self._numbers.keys() - set(names):
            self._map.delete(NamespaceName(name=name.encode()))
            del self._names[self._numbers.pop(name)]
