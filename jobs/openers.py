"""A job's work as something that can be sent: it is opened in the process that does it, here or on a Ray cluster.

A `Work` may hold models, which do not travel. An `Opener` is small, can be pickled, and says two things: how the whole
is opened, and how its reading half is, without any model. `opened` hands the whole to a local run; for a run on Ray it
hands out what an engine over there has told about itself, with the reading half in the place of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from jobs.feed import Elsewhere
from jobs.plan import Plan
from jobs.run_options import RunOptions
from jobs.work import Recalls, Work
from lore_mm.models.chat import Usage
from stores.features import FeatureStore

__all__ = ["DistantWork", "Opened", "Opener", "Pinned", "Reading", "Told", "opened"]


@dataclass(frozen=True, slots=True)
class Pinned:
    """What of a plan whoever loads rows has to know: the versions of the tables read, and of the table written."""

    inputs: Mapping[str, int] = field(default_factory=dict)
    base: int | None = None
    retry_failed: bool = False

    @classmethod
    def of(cls, plan: Plan) -> Pinned:
        """Those of a plan."""
        return cls(dict(plan.inputs), plan.base, bool(plan.settings["retry_failed"]))

    def tell(self, work: object) -> None:
        """Let a work, or its reading half, know; to be called before it loads anything, and once."""
        if isinstance(work, Recalls):
            work.recall(self.base, self.retry_failed)
        if pin := getattr(work, "pin", None):
            pin(self.inputs)


class Reading(Protocol):
    """The reading half of a Work: no model. See `jobs.work.Work` for what the methods do.

    One that must know the versions of the tables before it can load has a method `pin(versions)`; one may also be a
    `jobs.work.Recalls`.
    """

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The input in a stable order."""
        ...

    def input_shas(self, rows: pa.Table) -> list[str]:
        """What each row would be made from now."""
        ...

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """The input shas, and what `process` needs of each row."""
        ...


class Opener(Protocol):
    """How a work is opened; can be pickled."""

    @property
    def threads(self) -> int:
        """Micro-batches at once in one engine."""
        ...

    @property
    def loads_apart(self) -> bool:
        """True where `reading` can load, in another process than that of the model."""
        ...

    def open(self) -> AbstractContextManager[Work]:
        """The whole work with its models, which are closed at the end."""
        ...

    def facts(self, work: Any) -> Mapping[str, Any]:
        """What the job has to know of the opened work; can be pickled."""
        ...

    def reading(self, facts: Mapping[str, Any], store: FeatureStore | None = None) -> Reading:
        """The reading half; over the store that the opener names unless another object for it is given."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """What an opened work says of itself where it cannot be seen: as the attributes of `jobs.work.Work`."""

    job: str
    table: str
    reads: tuple[str, ...]
    key: tuple[str, ...]
    verdict: Mapping[str, str]
    settings: Mapping[str, Any]
    settings_sha: str
    made_with: Mapping[str, Any]
    spends: bool  # it asks models that are paid for, and has `spent()`
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, work: Work, opener: Opener) -> Told:
        """Ask a work that is open."""
        return cls(
            work.job,
            work.table,
            tuple(work.reads),
            tuple(work.key),
            dict(work.verdict),
            dict(work.settings),
            work.settings_sha,
            dict(getattr(work, "made_with", {})),
            hasattr(work, "spent"),
            dict(opener.facts(work)),
        )


class DistantWork:
    """The Work of a run whose models are elsewhere: reads here, and makes nothing.

    Where models are paid for it has `spent()`: what they were asked over there, by their names.
    """

    def __init__(self, told: Told, reading: Reading, spent: Callable[[], Mapping[str, Usage]]) -> None:
        if told.spends:
            self.spent = spent
        self.job, self.table, self.reads, self.key = told.job, told.table, told.reads, told.key
        self.verdict, self.settings, self.settings_sha = told.verdict, told.settings, told.settings_sha
        self.made_with = told.made_with
        self._reading = reading

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """As the reading half does."""
        return self._reading.read(versions, columns, rows, start)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """As the reading half does."""
        return self._reading.input_shas(rows)

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """As the reading half does."""
        return self._reading.load(rows)

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """Never called: rows are made where the model is."""
        raise NotImplementedError(f"{self.job} is made elsewhere")

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Never called."""
        raise NotImplementedError(f"{self.job} is made elsewhere")


@dataclass(frozen=True, slots=True)
class Opened:
    """A work for `jobs.spine.run_job`; `elsewhere` where its rows are made in other processes."""

    work: Any
    facts: Mapping[str, Any]
    elsewhere: Elsewhere | None = None


@contextmanager
def opened(opener: Opener, store: FeatureStore, options: RunOptions) -> Iterator[Opened]:
    """Open a work where the options say that it runs.

    Raises:
        MissingExtraError: it runs on Ray, which is not installed.
        LoreError: whatever opening it raises, here or over there.
    """
    if options.get("run_on") != "ray":
        with opener.open() as work:
            yield Opened(work, opener.facts(work))
        return
    from jobs.ray_engine import RayEngine

    with RayEngine(opener, options.get("ray_address"), options.get("workers")) as engine:
        reading = opener.reading(engine.told.facts, store)
        yield Opened(DistantWork(engine.told, reading, engine.spent), engine.told.facts, engine)
