"""Measured extractors as tables for a terminal of 100 columns, and their answers as a table for error analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.attribute_metrics import METRICS, Measured
from jobs.attribute_scoring import ScoredRow
from lore_mm.bootstrap import Estimate

__all__ = ["PREDICTIONS", "attribute_rows", "attribute_tables", "save_predictions"]

PREDICTIONS = pa.schema(
    [
        pa.field("system", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("truth", pa.list_(pa.string())),
        pa.field("truth_status", pa.string(), nullable=False),  # value, not_stated, not_applicable
        pa.field("any_of", pa.bool_(), nullable=False),  # the true values are ways to say the same
        pa.field("said", pa.list_(pa.string())),
        pa.field("confidences", pa.list_(pa.float64())),
        pa.field("right", pa.bool_(), nullable=False),  # nothing false was said
        pa.field("exact", pa.bool_(), nullable=False),  # and all there is to say
        pa.field("error", pa.string()),
    ]
)
_TITLES = {
    "accuracy": "accuracy",
    "any_match": "any match",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "ece": "ECE",
    "brier": "Brier",
    "coverage": "coverage",
}
_BY_ATTRIBUTE = ("accuracy", "f1")


def attribute_tables(measured: Mapping[str, Mapping[str, Measured]]) -> list[object]:
    """Metrics over all rows and as means over attributes, a system a column; then accuracy and F1 by attribute."""
    from rich.box import SIMPLE
    from rich.table import Table

    systems = list(measured)
    tables: list[object] = []
    for part, title in (("micro", "all rows (micro)"), ("macro", "mean over attributes (macro)")):
        table = Table(title=f"{title}, 95 % intervals over groups", box=SIMPLE)
        table.add_column("", no_wrap=True)
        for name in systems:
            table.add_column(name)
        for metric in METRICS:
            table.add_row(_TITLES[metric], *(_cell(measured[name][part].metrics[metric]) for name in systems))
        if part == "micro":
            for count, word in (("n", "rows"), ("answered", "answered"), ("failed", "failed")):
                table.add_row(word, *_counts(measured, count))
        tables.append(table)
    attributes = [name for name in measured[systems[0]] if name not in ("micro", "macro")]
    for metric in _BY_ATTRIBUTE:
        table = Table("attribute", "rows", *systems, title=f"{_TITLES[metric]} by attribute", box=SIMPLE)
        for attribute in attributes:
            cells = [_short(measured[name][attribute].metrics[metric]) for name in systems]
            table.add_row(attribute, str(measured[systems[0]][attribute].n), *cells)
        tables.append(table)
    return tables


def attribute_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `lore evaluate attributes --json` printed, as rows for a reader: a system a row, a micro metric a cell."""
    return [
        {"": name, "rows": system["n"], "answered": system["answered"], "failed": system["failed"]}
        | {_TITLES[metric]: _told(system["micro"][metric]) for metric in METRICS}
        for name, system in result["systems"].items()
    ]


def _told(estimate: Mapping[str, float | None]) -> str:
    if estimate["value"] is None:
        return "–"
    low, high = (estimate[k] if estimate[k] is not None else float("nan") for k in ("low", "high"))
    return f"{estimate['value']:.2f} [{low:.2f}, {high:.2f}]"


def _counts(measured: Mapping[str, Mapping[str, Measured]], count: str) -> list[str]:
    return [str(getattr(parts["micro"], count)) for parts in measured.values()]


def _cell(estimate: Estimate) -> str:
    if estimate.value != estimate.value:
        return "–"
    return f"{estimate.value:.2f}\n{estimate.low:.2f}–{estimate.high:.2f}"  # two lines: six systems fit 100 columns


def _short(estimate: Estimate) -> str:
    return "–" if estimate.value != estimate.value else f"{estimate.value:.2f}"


def save_predictions(rows: Mapping[str, Sequence[ScoredRow]], path: Path) -> None:
    """Every answer beside its truth as a Parquet file of `PREDICTIONS`, in place of what was there at one stroke."""
    table = pa.Table.from_pylist(
        [
            {
                "system": system,
                "item_id": row.item_id,
                "group": row.group,
                "attribute": row.attribute,
                "truth": list(row.truth.values),
                "truth_status": row.truth.status,
                "any_of": row.truth.any_of,
                "said": list(row.values),
                "confidences": list(row.confidences),
                "right": row.right,
                "exact": row.exact,
                "error": row.error,
            }
            for system, some in rows.items()
            for row in some
        ],
        schema=PREDICTIONS,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    pq.write_table(table, new)
    new.replace(path)
