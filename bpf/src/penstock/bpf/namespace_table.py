"""Numbers of Kubernetes namespaces in the kernel: what pods of one reach may differ from the rest.

Numbers outlive the agent as the maps do that have them, and so do the names that they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import chain

from penstock.bpf.abi import NAMESPACE_SIZE, Index, NamespaceName
from penstock.bpf.errors import DatapathError
from penstock.bpf.maps import BpfMap

_LARGEST = 0xFFFF


class NamespaceTable:
    """The only writer of the map."""

    def __init__(
        self, namespace_map: BpfMap[NamespaceName, Index], used: Callable[[], Collection[str]]
    ) -> None:
        """Read what the map holds; *used* tells which names other maps have the numbers of."""
        self._map, self._used = namespace_map, used
        self._numbers = {key.name.decode(): value.value for key, value in namespace_map.items()}
        self._names = {number: name for name, number in self._numbers.items()}
        self._last = max(self._names, default=0)
        """The number that was given last."""

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
        number = self._free()
        if number is None:
            self.keep(self._used())
            number = self._free()
        if number is None:
            raise DatapathError(f"namespace {name}: {_LARGEST} have a number, no more can")
        self._map.put(NamespaceName(name=name.encode()), Index(value=number))
        self._numbers[name], self._names[number] = number, name
        self._last = number
        return number

    def _free(self) -> int | None:
        """Return a number that no namespace has; None if there is none."""
        # One that was given back just now may be on its way through a program: it comes last.
        after = self._last + 1
        turn = chain(range(after, _LARGEST + 1), range(1, after))
        return next((one for one in turn if one not in self._names), None)

    def name(self, number: int) -> str:
        """Return the namespace with a number; "" for 0, and for one that nobody has."""
        return self._names.get(number, "")

    def keep(self, names: Collection[str]) -> None:
        """Take the numbers of all others back; no map may have them any more."""
        for name in self._numbers.keys() - set(names):
            self._map.delete(NamespaceName(name=name.encode()))
            del self._names[self._numbers.pop(name)]
