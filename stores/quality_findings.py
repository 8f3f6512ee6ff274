"""What stands out among the lines of `stores.quality`, worst first, each with an item to look at and what to do next.

Levels, from worst: `wrong` (failed, not legal), `moved` (drift), `doubtful` (sources disagree, values look wrong),
`missing`. Within a level the one that concerns most items comes first. It reads tables and draws conclusions; it
counts nothing itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from stores.quality_counts import ALL
from stores.quality_drift import MIX, Limits

__all__ = ["FINDING", "LEVELS", "findings"]

LEVELS = ("wrong", "moved", "doubtful", "missing")
_DISAGREE = 0.1  # share of what two extractors both speak of that stands out; in a category, above that over all
_LOW, _USUAL = 0.5, 0.1  # coverage in a category below half of the attribute's over all, where that is a tenth at least
_TEXT: pa.DataType = pa.string()
_WHOLE: pa.DataType = pa.int64()
FINDING = pa.schema(
    {
        "kind": _TEXT,
        "level": _TEXT,
        "about": _TEXT,
        "category": _TEXT,
        "what": _TEXT,
        "n": _WHOLE,
        "of": _WHOLE,
        "example": _TEXT,
        "next": _TEXT,
    }
)
# gap → level and what closes it
_GAPS = {
    "items that could not be read": ("wrong", "mend the rows, then lore ingest"),
    "items without a picture": ("missing", ""),
    "items without a price": ("missing", ""),
    "items without a description": ("missing", ""),
    "items without a vector": ("missing", "lore embed"),
    "items of no known category": ("missing", "lore query {example}"),
    "items not extracted": ("missing", "lore extract"),
    "queries not read yet": ("missing", "lore understand-queries"),
    "queries that could not be read": ("wrong", "lore understand-queries --retry-failed"),
    "queries without a demand": ("doubtful", ""),
    "judgments that failed": ("wrong", "lore judge-pairs --retry-failed"),
}


def findings(table: Callable[[str], pa.Table], limits: Limits) -> list[dict[str, Any]]:
    """The findings; `table` gives the lines of a kind, and each kind is asked for once."""
    found = [
        *_of_gaps(table("gap")),
        *_of_failures(table("failure")),
        *_of_odd(table("odd")),
        *_of_conflicts(table("conflict"), limits),
        *_of_drift(table("drift")),
        *_of_coverage(table("coverage"), limits),
    ]
    return sorted(found, key=lambda f: (LEVELS.index(f["level"]), -f["n"], f["about"], f["category"] or "", f["what"]))


def _finding(level: str, about: str, what: str, n: int, of: int | None, **more: str | None) -> dict[str, Any]:
    line = {"kind": "finding", "level": level, "about": about, "category": None, "what": what, "n": n, "of": of}
    return line | {"example": None, "next": None} | more


def _of_gaps(gaps: pa.Table) -> Iterator[dict[str, Any]]:
    for row in gaps.to_pylist():
        if row["n"]:
            level, after = _GAPS[row["what"]]
            example = row["examples"][0]
            about = row["what"].split(" ")[0]
            yield _finding(
                level,
                about,
                row["what"],
                row["n"],
                row["of"],
                example=example,
                next=after.format(example=shlex.quote(example)),
            )


def _of_failures(failures: pa.Table) -> Iterator[dict[str, Any]]:
    for row in failures.to_pylist():
        if row["extractor"] != "merge":  # which repeats what failed before it
            what = f"failed: {row['reason']}"
            more = {"example": row["examples"][0], "next": "lore extract --retry-failed"}
            yield _finding("wrong", row["extractor"], what, row["n"], row["of"], **more)


def _of_odd(odd: pa.Table) -> Iterator[dict[str, Any]]:
    """The commonest odd value of each attribute and kind stands for all of them."""
    seen = set()
    for row in odd.to_pylist():
        if (row["why"], row["attribute"]) in seen:
            continue
        seen.add((row["why"], row["attribute"]))
        value = f" “{_short(row['value'])}”" if row["value"] is not None else ""
        told = f" ({row['told']})" if row["told"] else ""
        more = f", and {row['of_kind'] - 1:,} more like it" if row["of_kind"] > 1 else ""
        yield _finding(
            "wrong" if row["wrong"] else "doubtful",
            row["attribute"],
            f"{row['why']}:{value}{told}{more}" if value or told else row["why"],
            row["n_of_kind"],
            None,
            category=row["category"],
            example=row["example"],
            next=_look(row["example"]),
        )


def _of_conflicts(conflicts: pa.Table, limits: Limits) -> Iterator[dict[str, Any]]:
    overall: dict[tuple[str, ...], float] = {}
    for row in conflicts.to_pylist():  # those over all categories come first
        about = row["attribute"], row["one"], row["other"]
        if row["category"] == ALL:
            overall[about] = row["share"]
        elif row["both"] < limits.items or row["share"] < overall[about] + _DISAGREE:
            continue
        if row["share"] < _DISAGREE:
            continue
        one = row["disputes"][0]
        what = f"{row['one']} and {row['other']} disagree: “{_short(one['one'])}”, “{_short(one['other'])}”"
        more = {"category": row["category"], "example": one["item"], "next": _look(one["item"])}
        yield _finding("doubtful", row["attribute"], what, row["disagreed"], row["both"], **more)


def _of_drift(drift: pa.Table) -> Iterator[dict[str, Any]]:
    for row in drift.to_pylist():
        for moved in row["flagged"]:
            if moved == "coverage":
                what = f"coverage {row['coverage_before']:.1%} → {row['coverage_now']:.1%}"
            elif moved == "numbers":
                what = f"numbers moved: distance {row['ks']:.2f}"
            else:
                said = "the mix of categories" if row["attribute"] == MIX else "what is said"
                what = f"{said} moved: PSI {row['psi']:.2f} ({row['reading']}), {row['jsd']:.3f} bits"
                for name in ("new", "vanished"):
                    if values := row[f"{name}_values"]:
                        what += f"; {name}: {', '.join(_short(v) for v in values[:3])}"
            n = row["items_now"] if moved == "coverage" else row["stated_now"]
            yield _finding("moved", row["attribute"], what, n, row["items_now"], category=row["category"])


def _of_coverage(coverage: pa.Table, limits: Limits) -> Iterator[dict[str, Any]]:
    """Attributes whose extraction failed, and categories in which one is stated far less than elsewhere."""
    rows = coverage.to_pylist()
    overall = {row["attribute"]: row["coverage"] or 0.0 for row in rows if row["category"] == ALL}
    for row in rows:
        name, usual = row["attribute"], overall.get(row["attribute"], 0.0)
        if row["category"] == ALL:
            if row["failed"]:
                yield _finding("wrong", name, "could not be told", row["failed"], row["items"], category=ALL)
        elif (
            row["items"] >= limits.items
            and row["coverage"] is not None
            and usual >= _USUAL
            and row["coverage"] < usual * _LOW
        ):
            what = f"{row['coverage']:.1%} have a value, {usual:.1%} over all categories"
            yield _finding(
                "missing",
                name,
                what,
                row["items"] - row["stated"] - row["not_applicable"],
                row["items"],
                category=row["category"],
                next=shlex.join(["lore", "quality", "--category", row["category"], "--attribute", name]),
            )


def _look(item_id: str) -> str:
    """The command that shows an item, safe to be pasted whatever the id is."""
    return shlex.join(["lore", "query", *(["--"] if item_id.startswith("-") else []), item_id])


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
