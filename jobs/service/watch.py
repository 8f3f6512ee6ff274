"""When to load anew: what a desk is made of, looked at again and again. Opens and closes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.service.desk import Served

__all__ = ["Marks", "marks_of"]

_FILES = ("rules", "route", "student")  # modes of a judge that live in a file or folder of the user's
_TABLES = ("items", "attributes", "embeddings", "queries", "demands", "judgments")  # that answers depend on
_Mark = tuple[str, int, int]  # a file, when it was written to, its size


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells a change: `store` of the store and what is made of it, `models` of rulebook, routing and models."""

    store: tuple[Any, ...]
    models: tuple[Any, ...]


def marks_of(served: Served) -> Marks:
    """The marks as they are now.

    Raises:
        StoreError: the store cannot be read.
    """
    store = served.store
    beside = store.beside()
    pointers = [beside / "online" / "current", *sorted(beside.glob("vectors/*/current"))]
    tables = [(table, store.version(table), store.table_id(table)) for table in _TABLES]
    return Marks((*tables, *(mark for path in pointers for mark in _marks(path))), tuple(_of_models(served)))


def _of_models(served: Served) -> Iterator[_Mark]:
    mode, _, rest = served.judge.partition(":")
    paths = [served.rules, served.knowledge, Path(rest) if mode in _FILES and rest else None]
    for path in paths:
        if path is not None:
            yield from _marks(path)
    has_index = (served.store.beside() / "vectors").is_dir()
    yield ("vectors", int(has_index), 0)  # an embedder is wanted once there is an index


def _marks(path: Path) -> Iterator[_Mark]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            yield (str(file), 0, -1)
        else:
            yield (str(file), stat.st_mtime_ns, stat.st_size)
