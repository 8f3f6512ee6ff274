"""What one kind of job does with rows (`Work`), and how it is called so that one bad row fails and not all.

A call that raises is taken again in halves, down to the row that raised it; results are held against the row law. Only
what stops a whole job (a store, a model, a setting) is let through. This module knows no plan, no store and no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from lore_mm.errors import ConfigError, MissingExtraError, ModelError, PlanError, StoreError

__all__ = ["Broken", "Recalls", "Work", "input_shas", "load_rows", "make_rows", "verdicts"]

_STOPS_THE_JOB = (StoreError, ModelError, ConfigError, MissingExtraError, PlanError)


class Work(Protocol):
    """What one kind of job does with rows. Everything about order, commits and failures is the spine's.

    `verdict` (column → value) names the output rows that stand for their input row, where a job writes several for
    one; empty where each does. The key columns are text, and have the same names in input and output. A work may also
    have `made_with`, which its runs tell whoever traces a row (`jobs.plan.Plan`).
    """

    job: str
    table: str  # the table it writes
    reads: tuple[str, ...]  # the tables it reads; the plan pins their versions
    key: tuple[str, ...]
    verdict: Mapping[str, str]
    settings: Mapping[str, Any]  # JSON-able; a run in progress may not change them
    settings_sha: str  # of the part of the settings that makes an output row stale

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The input in a stable order at these versions, from its row at `start` on.

        Older rows of a key stand before newer ones.
        """
        ...

    def input_shas(self, rows: pa.Table) -> list[str]:
        """What each row would be made from now; cheaper than loading it."""
        ...

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """The input shas of rows and what `process` needs of each (decoded pictures); runs beside `process`."""
        ...

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """Output rows for input rows. Provenance may be null but for the maker: the spine fills it in.

        Called from several threads at once where the job runs with `in_flight` above 1.
        """
        ...

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Output rows, status failed, for rows that `load` or `process` could not bear."""
        ...


@runtime_checkable
class Recalls(Protocol):
    """Work that takes over parts of what stands in its own table, where only a part of a row's input has changed."""

    def recall(self, version: int | None, retry_failed: bool) -> None:
        """What stands is that of this version of the table, None where there is none; told before anything is loaded.

        With `retry_failed` what failed of it is made again. Where this was never told nothing is taken over.
        """
        ...


@dataclass(frozen=True, slots=True)
class Broken:
    """In the place of a loaded row: why it could not be loaded."""

    error: str


def input_shas(work: Work, rows: pa.Table) -> list[str]:
    """`work.input_shas`, halved on an exception; empty where a row raises it."""
    try:
        return work.input_shas(rows)
    except _STOPS_THE_JOB:
        raise
    except Exception:
        if rows.num_rows == 1:
            return [""]  # as `load_rows` names what cannot be read
        half = rows.num_rows // 2
        return input_shas(work, rows.slice(0, half)) + input_shas(work, rows.slice(half))


def load_rows(work: Work, rows: pa.Table) -> tuple[list[str], list[Any]]:
    """`work.load`, halved on an exception until the row that raised it stands alone, as Broken."""
    try:
        return work.load(rows)
    except _STOPS_THE_JOB:
        raise
    except Exception as error:
        if rows.num_rows == 1:
            return [""], [Broken(_reason(error))]
        half = rows.num_rows // 2
        shas, payload = load_rows(work, rows.slice(0, half))
        more_shas, more_payload = load_rows(work, rows.slice(half))
        return shas + more_shas, payload + more_payload


def make_rows(work: Work, rows: pa.Table, loaded: list[Any]) -> pa.Table:
    """`work.process`, halved on an exception until the row that raised it stands alone, as failed."""
    broken = next((one for one in loaded if isinstance(one, Broken)), None)
    try:
        if broken is None:
            made = work.process(rows, loaded)
            _check_law(work, rows, made)
            return made
        reason = broken.error
    except _STOPS_THE_JOB:
        raise
    except Exception as error:
        reason = _reason(error)
    if rows.num_rows == 1:
        made = work.failed(rows, reason)
        _check_law(work, rows, made)
        return made
    half = rows.num_rows // 2
    return pa.concat_tables(
        [make_rows(work, rows.slice(0, half), loaded[:half]), make_rows(work, rows.slice(half), loaded[half:])]
    )


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def verdicts(work: Work, made: pa.Table) -> pa.Table:
    """The output rows that stand for their input row."""
    for column, value in work.verdict.items():
        made = made.filter(pc.equal(made.column(column), pa.scalar(value)))
    return made


def _check_law(work: Work, rows: pa.Table, made: pa.Table) -> None:
    """The row law: as many verdicts as rows, in the same order, with the same keys, each ok or failed."""
    said = verdicts(work, made)
    for name in work.key:
        have, want = said.column(name), rows.column(name)
        if not have.equals(want) and have.to_pylist() != want.to_pylist():
            raise RuntimeError(f"{work.job} broke the row law: {said.num_rows} results for {rows.num_rows} rows")
    if strange := {str(status) for status in pc.unique(said.column("status")).to_pylist()} - {"ok", "failed"}:
        raise RuntimeError(f"{work.job} gave a row the status {sorted(strange)}; legal: ok, failed")
