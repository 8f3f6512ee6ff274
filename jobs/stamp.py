"""The provenance that every row of a job's output carries: run, maker, what it was made from, settings, time.

Column by column, as a row costs little else in a job whose work is cheap. This module knows what rows are keyed by,
and not what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs.work import Work
from lore_mm.tables import PROVENANCE

__all__ = ["stamp"]


def stamp(
    work: Work, run_id: str, made: pa.Table, rows: pa.Table, input_shas: Sequence[str], not_before: datetime | None
) -> pa.Table:
    """Fill in the provenance of what was `made` of `rows`; the settings where the work left them open.

    The time is later than that of any row it may replace, even where the clock was set back: newest wins by time.

    Raises:
        RuntimeError: a row was made that has the key of none of `rows`.
    """
    given = _one_piece(made.column("provenance"))
    own = pc.struct_field(given, "settings_sha")
    n, now = made.num_rows, datetime.now(UTC)
    if not_before is not None:
        now = max(now, not_before + timedelta(microseconds=1))
    stamped = {
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), n),
        "maker": pc.struct_field(given, "maker"),
        "input_sha": _of_made(work, made, rows, pa.array(input_shas, pa.string())),
        "settings_sha": pc.if_else(pc.greater(pc.fill_null(own, ""), pa.scalar("")), own, pa.scalar(work.settings_sha)),
        "made_at": pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), n),
    }
    column = pa.StructArray.from_arrays([stamped[field.name] for field in PROVENANCE], fields=list(PROVENANCE))
    return made.set_column(made.schema.get_field_index("provenance"), made.schema.field("provenance"), column)


def _of_made(work: Work, made: pa.Table, rows: pa.Table, values: pa.Array[Any]) -> pa.Array[Any]:
    """The value of its input row for each row made."""
    key = list(work.key)
    if all(made.column(name).equals(rows.column(name)) for name in key):  # one row for each
        return values
    of_key = pl.DataFrame(pl.from_arrow(rows.select(key))).with_row_index("__row")
    wanted = pl.DataFrame(pl.from_arrow(made.select(key)))
    at = wanted.join(of_key, on=key, how="left", maintain_order="left")["__row"].to_arrow()
    if at.null_count or len(at) != made.num_rows:
        raise RuntimeError(f"{work.job} made a row with the key of none of its input rows")
    return values.take(at)


def _one_piece(column: Any) -> Any:
    """A column as one array."""
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
