"""Every system's answer to every pair beside the label, as a file: what to look at after the figures.

One row a pair: the query, the item, the true level, and under `systems` what each judge and baseline said, side by
side. The pairs on which the judges are furthest from the label come first. It knows no metric.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.judge_systems import SystemRun
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.errors import InputError
from lore_mm.types import Grade, Judgment

__all__ = ["ENDINGS", "answer_rows", "check_ending", "leg_of_grade", "save_answers"]

ENDINGS = (".parquet", ".jsonl")
_ANSWER = pa.struct(
    [
        ("grade", pa.string()),
        ("score", pa.float64()),
        ("probabilities", pa.list_(pa.float64())),
        ("said", pa.string()),
        ("samples", pa.list_(pa.string())),
        ("failed_dimensions", pa.list_(pa.string())),
        ("reason", pa.string()),
        ("error", pa.string()),
    ]
)


def check_ending(path: Path | None) -> None:
    """Check that such a file can be written.

    Raises:
        InputError: another ending.
    """
    if path is not None and path.suffix not in ENDINGS:
        raise InputError(f"--save {path}: legal: the name of a {' or '.join(ENDINGS)} file")


def answer_rows(
    data: RelevanceSet, judges: Sequence[SystemRun], baselines: Sequence[SystemRun] = ()
) -> list[dict[str, Any]]:
    """One row a pair, those on which the judges are furthest from the label first.

    `apart` is the mean distance of the judges' grades from the label, in levels; null where no judge has a grade, and
    these pairs come last.
    """
    rows = []
    for place, pair in enumerate(data.pairs):
        item = data.items.get(pair.item_id)
        levels = [run.grades[place] for run in judges if run.grades[place]]
        rows.append(
            {
                "query_id": pair.query.query_id,
                "query": pair.query.text,
                "item_id": pair.item_id,
                "title": item.title if item else None,
                "kind": pair.kind,
                "split": pair.split,
                "truth": str(pair.grade),
                "apart": sum(abs(level - pair.grade) for level in levels) / len(levels) if levels else None,
                "systems": {run.name: _answer(run, place) for run in (*judges, *baselines)},
            }
        )
    return sorted(rows, key=lambda row: -1.0 if row["apart"] is None else row["apart"], reverse=True)


def _answer(run: SystemRun, place: int) -> dict[str, Any]:
    one = run.judgments[place] if run.judgments is not None else None
    level, score = run.grades[place], run.scores[place]
    return {
        "grade": str(Grade(level)) if level else None,
        "score": None if score != score else score,
        "probabilities": list(one.probabilities) if one and one.probabilities else None,
        "said": str(one.said) if one and one.said else None,
        "samples": [str(grade) for grade in one.samples] if one else None,
        "failed_dimensions": list(one.failed_dimensions) if one else None,
        "reason": leg_of_grade(one) if one else None,
        "error": one.error if one else None,
    }


def leg_of_grade(judgment: Judgment) -> str | None:
    """The worst leg of a judgment's path in words, its dimension first; None where it has no path."""
    legs = judgment.path.legs if judgment.path else ()
    if not legs:
        return None
    worst = min(legs, key=lambda leg: leg.level or 0)
    return f"{worst.demand.dimension} {worst.demand.value!r}: {worst.reason}"


def save_answers(rows: Sequence[dict[str, Any]], path: Path) -> int:
    """Write the rows of `answer_rows` to a .parquet or .jsonl file; how many there are.

    Raises:
        InputError: another ending, or the file cannot be written.
    """
    check_ending(path)
    try:
        if path.suffix == ".parquet":
            pq.write_table(_table(rows), path)
        else:
            path.write_text("".join(_lines(rows)), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--save {path}: {error.strerror or error}") from None
    return len(rows)


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    texts = ("query_id", "query", "item_id", "title", "kind", "split", "truth")
    names = list(rows[0]["systems"]) if rows else []
    systems = pa.struct([pa.field(name, _ANSWER) for name in names])
    fields: list[pa.Field[Any]] = [*(pa.field(name, pa.string()) for name in texts), pa.field("apart", pa.float64())]
    if names:
        fields.append(pa.field("systems", systems))
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))
