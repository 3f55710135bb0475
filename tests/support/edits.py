"""Random edits of a cluster."""

from __future__ import annotations

from hypothesis import strategies as st

from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef

Present = dict[ObjectRef, Object | Broken]
Edit = Object | Broken | int
"""An object that is put, or the place of one that is deleted."""


def edits(one: st.SearchStrategy[Object | Broken], most: int) -> st.SearchStrategy[list[Edit]]:
    """Return up to *most* edits by objects like *one*."""
    return st.lists(st.one_of(one, one, st.integers(0, 1000)), max_size=most)


def event_of(present: Present, edit: Edit) -> Event | None:
    """Make an edit of *present* and return it as a source would tell it; None if it is none."""
    if not isinstance(edit, int):
        kind = EventType.MODIFIED if edit.ref in present else EventType.ADDED
        present[edit.ref] = edit
        return Event(kind, edit)
    if not present:
        return None
    return Event(EventType.DELETED, present.pop(sorted(present)[edit % len(present)]))
