"""The objects that a set of files stands for, kept up to date file by file.

This is the API server of the file source: what the files say goes in, events come out. A file or
object that stops being understood keeps its last good version. No watching and no waiting here.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator

import msgspec

from penstock.core.decode import Decoded
from penstock.core.events import Event, EventType
from penstock.core.kinds import Service
from penstock.core.objects import Broken
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem, Severity
from penstock.sources.admission import ServiceAddresses
from penstock.sources.manifests import FileContent, Manifest, read_manifests, unsupported
from penstock.sources.reading import Listing, Signature, UnreadableError
from penstock.sources.registry import Registry
from penstock.sources.source import SourceProblem
from penstock.sources.yaml import Text

SETTLE_SECONDS = 2.0
"""How long a file that lost its end must stay so before it is believed."""

Read = Callable[[str], tuple[str, Signature | None]]
"""Returns text and signature of a file; the signature is None if it has to be read again."""


class _File:
    """One file: the content in force and what is wrong with the present one."""

    def __init__(self) -> None:
        self.signature: Signature | None = None
        self.text = Text("", "")
        self.content = FileContent()
        self.trouble: tuple[SourceProblem, ...] = ()


class _Shorter(msgspec.Struct, frozen=True):
    """Text that is the beginning of the one in force, and since when it is there."""

    text: str
    since: float


class _Entry(msgspec.Struct, frozen=True):
    """One object in force."""

    manifest: Manifest
    """The version in force: the present one if it decodes, else the last one that did."""
    generation: int
    failing: bool
    """Whether the present version does not decode."""


class Contents:
    """The objects of a set of files."""

    def __init__(self, registry: Registry) -> None:
        """Start empty; *registry* tells which kinds are understood."""
        self._registry = registry
        self._files: dict[str, _File] = {}
        self._shorter: dict[str, _Shorter] = {}
        """Files that lost their end, and are perhaps still being written."""
        self._unreadable: dict[str, UnreadableError] = {}
        self._claims: dict[ObjectRef, list[tuple[str, int]]] = {}
        """Files and positions in them where an object is written, in order; the first counts."""
        self._entries: dict[ObjectRef, _Entry] = {}
        self._addresses = ServiceAddresses()
        self._published: dict[ObjectRef, Decoded] = {}

    def apply(self, listing: Listing, read: Read, now: float) -> tuple[Event, ...]:
        """Take the present state of the files and return what changed, sorted by object.

        Args:
            listing: the files that are there; if it tells what changed, then since the last call.
            read: gives the text of a file; called only for files whose signature changed.
            now: monotonic time in seconds.
        """
        touched: set[ObjectRef] = set()
        for path in self._gone(listing):
            touched |= self._replace(path, FileContent())
            self._shorter.pop(path, None)
            del self._files[path]
        for path in self._changed(listing):
            touched |= self._refresh(path, read, now)
        self._unreadable = listing.unreadable
        for ref in sorted(touched):
            self._settle(ref)
        return self._publish(touched | self._admit(touched))

    def objects(self) -> tuple[Decoded, ...]:
        """Return all objects in force, sorted by kind, namespace and name."""
        return tuple(self._published[ref] for ref in sorted(self._published))

    def recheck_after(self, now: float) -> float | None:
        """Return in how many seconds `apply` should run again, None if only after a change."""
        times = [shorter.since + SETTLE_SECONDS for shorter in self._shorter.values()]
        return max(0.0, min(times) - now) if times else None

    def locate(self, ref: ObjectRef, path: str) -> Location | None:
        """Return the place of a JSON path in the version of *ref* in force, None if unknown."""
        entry = self._entries.get(ref)
        return None if entry is None else entry.manifest.locate(path)

    def problems(self) -> tuple[SourceProblem, ...]:
        """Return what is wrong at present, sorted by file and line."""
        found = [*self._file_problems(), *self._object_problems(), *self._ignored_kinds()]
        return tuple(sorted(found, key=_by_place))

    def _gone(self, listing: Listing) -> list[str]:
        """Return the files that do not exist any more; below an unreadable folder none is gone."""
        blind = tuple(listing.unreadable)
        candidates = self._files if listing.changed is None else listing.changed
        return sorted(
            path
            for path in candidates
            if path in self._files
            and path not in listing.files
            and not any(path == one or path.startswith(one.rstrip("/") + "/") for one in blind)
        )

    def _changed(self, listing: Listing) -> list[str]:
        """Return the files to be read, sorted."""
        candidates = listing.files if listing.changed is None else listing.changed
        changed = set(self._shorter)
        for path in candidates:
            known = self._files.get(path)
            if known is None or known.signature != listing.files.get(path):
                changed.add(path)
        return sorted(path for path in changed if path in listing.files)

    def _refresh(self, path: str, read: Read, now: float) -> set[ObjectRef]:
        """Read one file and return the objects that it may have changed."""
        file = self._files.setdefault(path, _File())
        try:
            text, file.signature = read(path)
            if text == file.text.text and file.text.file:
                file.trouble = file.content.problems
                self._shorter.pop(path, None)
                return set()
            if self._looks_half_written(file, path, text, now):
                return set()
            return self._take(file, path, Text(path, text))
        except UnreadableError as error:
            self._shorter.pop(path, None)
            file.trouble = (_trouble(error, last_good=bool(file.content.manifests)),)
            return set()

    def _looks_half_written(self, file: _File, path: str, text: str, now: float) -> bool:
        """Return whether *text* is the last good one cut off; keep that one meanwhile.

        An empty file keeps it for good: whoever wants the objects away removes the file. One
        that lost its end is believed after it stayed so for a while.
        """
        before = self._shorter.pop(path, None)
        good, cut = file.text.text.rstrip(), text.rstrip()
        if not file.content.manifests or cut == good or not good.startswith(cut):
            return False
        cause, remedy = "is empty", "remove the file to remove its objects"
        if cut:
            cause, remedy = "lost its end", "waiting for the rest of it"
            since = before.since if before is not None and before.text == text else now
            if now - since >= SETTLE_SECONDS:
                return False
            self._shorter[path] = _Shorter(text, since)
        problem = Problem("", cause, remedy, Severity.WARNING)
        place = Location(path, 1)
        file.trouble = (SourceProblem(file=path, location=place, problem=problem, last_good=True),)
        return True

    def _take(self, file: _File, path: str, text: Text) -> set[ObjectRef]:
        """Let *text* be the content of *file*, unless it once said more clearly what it holds.

        Raises:
            UnreadableError: the text is not YAML.
        """
        known = {(one.ref, one.digest): one for one in file.content.manifests}
        content = read_manifests(text, self._registry, known)
        before = file.content
        if content.unidentified and before.manifests and not before.unidentified:
            file.trouble = tuple(
                msgspec.structs.replace(problem, last_good=True) for problem in content.unidentified
            )
            return set()
        file.trouble = content.problems
        file.text = text
        return self._replace(path, content)

    def _replace(self, path: str, content: FileContent) -> set[ObjectRef]:
        """Exchange the content of a file and return the objects of both versions."""
        file = self._files[path]
        old = {manifest.ref for manifest in file.content.manifests}
        for ref in old:
            claims = [claim for claim in self._claims[ref] if claim[0] != path]
            if claims:
                self._claims[ref] = claims
            else:
                del self._claims[ref]
        for position, manifest in enumerate(content.manifests):
            bisect.insort(self._claims.setdefault(manifest.ref, []), (path, position))
        file.content = content
        return old | {manifest.ref for manifest in content.manifests}

    def _settle(self, ref: ObjectRef) -> None:
        """Decide which version of an object is in force."""
        present = self._present(ref)
        before = self._entries.get(ref)
        if present is None:
            self._entries.pop(ref, None)
            return
        broken = isinstance(present.decoded, Broken)
        if broken and before is not None and not isinstance(before.manifest.decoded, Broken):
            self._entries[ref] = _Entry(before.manifest, before.generation, failing=True)
            return
        generation = 1
        if before is not None:
            changed = before.manifest.spec_digest != present.spec_digest
            generation = before.generation + changed
        self._entries[ref] = _Entry(present, generation, failing=broken)

    def _present(self, ref: ObjectRef) -> Manifest | None:
        claims = self._claims.get(ref)
        if not claims:
            return None
        path, position = claims[0]
        return self._files[path].content.manifests[position]

    def _admit(self, touched: Iterable[ObjectRef]) -> set[ObjectRef]:
        """Update the addresses of Services and return those that others lost or won."""
        moved: set[ObjectRef] = set()
        for ref in sorted(touched):
            if ref.kind == Service.kind:
                entry = self._entries.get(ref)
                if entry is not None and isinstance(entry.manifest.decoded, Service):
                    moved |= self._addresses.put(entry.manifest.decoded)
                else:
                    moved |= self._addresses.remove(ref.key)
        return moved

    def _publish(self, refs: set[ObjectRef]) -> tuple[Event, ...]:
        events: list[Event] = []
        for ref in sorted(refs):
            before, after = self._published.get(ref), self._final(ref)
            if after is None:
                if before is not None:
                    events.append(Event(EventType.DELETED, self._published.pop(ref)))
            elif after != before:
                self._published[ref] = after
                kind = EventType.ADDED if before is None else EventType.MODIFIED
                events.append(Event(kind, after))
        return tuple(events)

    def _final(self, ref: ObjectRef) -> Decoded | None:
        """Return an object as others see it."""
        entry = self._entries.get(ref)
        if entry is None:
            return None
        decoded = entry.manifest.decoded
        if entry.generation != decoded.metadata.generation:
            metadata = msgspec.structs.replace(decoded.metadata, generation=entry.generation)
            decoded = msgspec.structs.replace(decoded, metadata=metadata)
        return self._addresses.admit(decoded) if isinstance(decoded, Service) else decoded

    def _file_problems(self) -> Iterator[SourceProblem]:
        for error in self._unreadable.values():
            yield _trouble(error, last_good=False)
        for path, file in self._files.items():
            if path not in self._unreadable:
                yield from file.trouble

    def _object_problems(self) -> Iterator[SourceProblem]:
        for path, file in self._files.items():
            for position, manifest in enumerate(file.content.manifests):
                first = self._claims[manifest.ref][0]
                if first != (path, position):
                    yield manifest.report(self._taken(manifest.ref))
                kept = first == (path, position) and self._keeps_last_good(manifest)
                for problem in manifest.problems:
                    yield manifest.report(problem, last_good=kept)
        for ref, entry in self._entries.items():
            if ref.kind == Service.kind and isinstance(entry.manifest.decoded, Service):
                clash = self._addresses.problem(entry.manifest.decoded)
                if clash is not None:
                    yield entry.manifest.report(clash)

    def _keeps_last_good(self, manifest: Manifest) -> bool:
        entry = self._entries[manifest.ref]
        return entry.failing and not isinstance(entry.manifest.decoded, Broken)

    def _taken(self, ref: ObjectRef) -> Problem:
        present = self._present(ref)
        place = "" if present is None else str(present.locate(""))
        return Problem("", f"is already defined in {place}", "remove one of the two")

    def _ignored_kinds(self) -> Iterator[SourceProblem]:
        seen: set[tuple[str, str]] = set()
        for _, file in sorted(self._files.items()):
            for one in file.content.ignored:
                if (one.api_version, one.kind) not in seen:
                    seen.add((one.api_version, one.kind))
                    yield unsupported(one, self._registry)


def _trouble(error: UnreadableError, *, last_good: bool) -> SourceProblem:
    return SourceProblem(
        file=error.location.file,
        location=error.location,
        problem=error.problem,
        last_good=last_good,
    )


def _by_place(problem: SourceProblem) -> tuple[Location, str, str]:
    return problem.location, problem.problem.path, problem.problem.message
