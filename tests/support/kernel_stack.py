"""The stack that chains of calls use, as the verifier of Linux 6.1 counts it.

Source: Linux 6.1, kernel/bpf/verifier.c, `check_max_stack_depth`. Later ones round frames up to 16
bytes where there is a JIT, so that what they take says nothing of 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from support.bpf_calls import Function

MOST_BYTES = 512
MOST_FRAMES = 8
MOST_BEFORE_TAIL_CALL = 255
"""Bytes of the callers of a function that makes a tail call and is itself called."""
_GRAIN = 32

Chain = tuple[Function, ...]
"""A program, a function that it calls, one that this calls, and so on."""


def frame(function: Function) -> int:
    """Return the bytes that the verifier counts for a function."""
    return -(-max(function.depth, 1) // _GRAIN) * _GRAIN


def chains(found: Mapping[str, Function]) -> Iterator[Chain]:
    """Yield every chain of calls from a program to a function that calls no other.

    One that comes back to a function of its own ends there.
    """
    pending: list[Chain] = [(one,) for one in found.values() if one.is_program]
    while pending:
        chain = pending.pop()
        called = () if chain[-1] in chain[:-1] else chain[-1].calls
        pending += [(*chain, found[name]) for name in called]
        if not called:
            yield chain


def refusals(found: Mapping[str, Function], *, spare: int = 0) -> list[str]:
    """Return a line for each chain of calls that Linux 6.1 refuses, with its frames and why.

    Args:
        spare: bytes of the stack that shall stay free.
    """
    return sorted(
        f"{' -> '.join(f'{one.name} ({frame(one)})' for one in chain)}: {'; '.join(reasons)}"
        for chain in chains(found)
        if (reasons := list(_reasons(chain, MOST_BYTES - spare)))
    )


def _reasons(chain: Chain, most_bytes: int) -> Iterator[str]:
    if chain[-1] in chain[:-1]:
        yield f"{chain[-1].name} calls itself"
        return
    if len(chain) > MOST_FRAMES:
        yield f"{len(chain)} frames, {MOST_FRAMES} are allowed"
    used = 0
    for function in chain:
        if function.has_tail_call and used > MOST_BEFORE_TAIL_CALL:
            yield (
                f"{used} bytes of stack before {function.name}, which makes a tail call, "
                f"{MOST_BEFORE_TAIL_CALL} are allowed"
            )
        used += frame(function)
    if used > most_bytes:
        yield f"{used} bytes of stack, {most_bytes} are allowed"
