"""`penstock get`: objects with their conditions."""

from __future__ import annotations

from pathlib import Path

from penstock.cli import client
from penstock.cli.answers import Items
from penstock.cli.columns import ALIASES, KINDS, Item, columns_of
from penstock.cli.formats import Format
from penstock.cli.output import complain, show_table, show_value
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

NOT_FOUND = 1


def kind_named(word: str) -> str:
    """Return the kind that *word* means: "httproutes", "HTTPRoute", "cnp".

    Raises:
        PenstockError: none.
    """
    lower = word.lower()
    if lower in ALIASES:
        return ALIASES[lower]
    plurals = {_plural(kind.lower()): kind for kind in KINDS}
    singular = {kind.lower(): kind for kind in KINDS}
    found = singular.get(lower) or plurals.get(lower)
    if found is None:
        raise PenstockError(f"there is no kind {word!r}; known: {', '.join(sorted(KINDS))}")
    return found


def get(
    paths: RunPaths,
    word: str,
    name: str,
    *,
    namespace: str | None,
    form: Format,
    files: Path | None = None,
) -> int:
    """Show the objects of a kind and return the exit status.

    Args:
        paths: of the instance.
        word: a kind, see `kind_named`.
        name: of one object; "" is all.
        namespace: None is all.
        form: how to show them.
        files: a folder or file to look in, instead of asking an instance.
    """
    kind = kind_named(word)
    every = _asked(paths, kind, namespace) if files is None else _read(files, kind, namespace)
    found = [item for item in every if name in ("", item["metadata"]["name"])]
    if form in (Format.JSON, Format.YAML):
        show_value(found[0] if name and len(found) == 1 else {"items": found}, form)
    elif found:
        show_objects(kind, found, wide=form is Format.WIDE)
    if not found:
        where = f"namespace {namespace}" if namespace else "any namespace"
        complain(f"no {kind}{f' {name!r}' if name else ''} in {where}")
    return NOT_FOUND if name and not found else 0


def _asked(paths: RunPaths, kind: str, namespace: str | None) -> list[Item]:
    query = {"kind": kind} | ({"namespace": namespace} if namespace else {})
    return client.controller(paths).get("/v1/objects", Items, query).items


def _read(files: Path, kind: str, namespace: str | None) -> list[Item]:
    """Return the objects of a kind in files; what is wrong with the files is told."""
    from penstock.cli.compiled import compile_files  # noqa: PLC0415 - a second, for files only
    from penstock.cli.offline import items  # noqa: PLC0415 - the same

    compiled = compile_files([files], assume_classes=True)
    for problem in compiled.loaded.problems:
        complain(str(problem))
    for assumed in compiled.assumed:
        if assumed.users:
            complain(assumed.text)
    return [
        item
        for item in items(compiled)
        if item["kind"] == kind and namespace in (None, item["metadata"].get("namespace"))
    ]


def show_objects(kind: str, items: list[Item], *, wide: bool) -> None:
    """Print objects of one kind as a table; a column in which nothing stands is left out."""
    columns = [column for column in columns_of(kind) if wide or not column.wide]
    cells = {
        "NAMESPACE": [item["metadata"].get("namespace", "") for item in items],
        "NAME": [item["metadata"]["name"] for item in items],
    } | {column.header: [column.cell(item) for item in items] for column in columns}
    shown = {
        header: values
        for header, values in cells.items()
        if header not in ("NAMESPACE", "WHY NOT") or any(v not in ("", "-") for v in values)
    }
    show_table(list(shown), zip(*shown.values(), strict=True))


def _plural(word: str) -> str:
    if word.endswith("y") and not word.endswith("ay"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "sh")) else "s")
