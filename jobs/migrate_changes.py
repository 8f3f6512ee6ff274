"""What a migration does to a store, counted and shown: for each thing it says, how many items, rows and values.

Items are counted by their verdicts, which are what everybody reads. This module decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from jobs.extraction_rows import VERDICT
from lore_mm.console import print_table
from lore_mm.migration_file import CATEGORY, Migration
from lore_mm.migrations import Decision, Said

__all__ = ["Count", "Tally", "show_tally"]

_EXAMPLES = 3
_SHOWN = 40  # lines of a table


@dataclass(slots=True)
class Count:
    """How often something was met, and where first."""

    items: int = 0  # verdicts
    rows: int = 0
    values: int = 0
    examples: list[dict[str, str | None]] = field(default_factory=list)

    def add(self, item_id: str, extractor: str, values: Sequence[str | None]) -> None:
        """Count a row, and the values of it that were meant."""
        self.items += extractor == VERDICT
        self.rows += 1
        self.values += len(values)
        if len(self.examples) < _EXAMPLES and item_id not in (one["item_id"] for one in self.examples):
            said = next((value for value in values if value is not None), None)
            self.examples.append({"item_id": item_id, "extractor": extractor, "value": said})


@dataclass(slots=True)
class Tally:
    """Counts by what the file says: `done` what is done, `kept` (with the reason) what stays although it is meant."""

    migration: Migration
    done: dict[str, Count] = field(default_factory=dict)
    kept: dict[tuple[str, str], Count] = field(default_factory=dict)

    def add(self, item_id: str, extractor: str, values: Sequence[Said], decision: Decision) -> None:
        """Count one row."""
        done: dict[str, list[str | None]] = {}
        kept: dict[tuple[str, str], list[str | None]] = {}
        for old, (_, label, reason) in decision.kinds.items():
            said = [v.value for v in values if v.name == CATEGORY and v.value == old]
            if reason is None:
                done[label] = list(said)
            else:
                kept[label, reason] = list(said) or [old]
        for value, fate in zip(values, decision.fates, strict=True):
            for label in fate.labels if value.name != CATEGORY else ():
                if fate.kept is None:
                    done.setdefault(label, []).append(value.value)
                else:
                    kept.setdefault((label, fate.kept), []).append(value.value)
        for label, found in done.items():
            self.done.setdefault(label, Count()).add(item_id, extractor, found)
        for key, found in kept.items():
            self.kept.setdefault(key, Count()).add(item_id, extractor, found)

    def as_rows(self) -> dict[str, list[dict[str, Any]]]:
        """All of it, JSON-able: what the file says in its order, also where it met nothing, and what stays."""
        return {
            "steps": [{"step": label, **_fields(self.done.get(label, Count()))} for label in self.migration.labels],
            "kept": [
                {"step": label, "why": why, **_fields(count)} for (label, why), count in sorted(self.kept.items())
            ],
        }


def show_tally(tally: Tally) -> None:
    """The counts as tables on a terminal; what met nothing is only counted."""
    met = [(label, tally.done[label]) for label in tally.migration.labels if label in tally.done]
    rest = len(tally.migration.labels) - len(met)
    _show("what the migration does", ("step", "items", "rows", "values", "such as"), [((a,), b) for a, b in met])
    if rest:
        print_table(Text(f"{rest} of {len(tally.migration.labels)} steps met nothing"))
    if tally.kept:
        columns = ("step", "why", "items", "rows", "values", "such as")
        _show("what stays as it is, though meant", columns, sorted(tally.kept.items()))


def _show(title: str, columns: Sequence[str], lines: Iterable[tuple[tuple[str, ...], Count]]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in ("items", "rows", "values") else "left")
    lines = list(lines)
    for names, count in lines[:_SHOWN]:
        examples = ", ".join(str(one["item_id"]) for one in count.examples)
        figures = (f"{count.items:,}", f"{count.rows:,}", f"{count.values:,}")
        table.add_row(*(Text(cell) for cell in (*names, *figures, examples)))
    print_table(table)
    if len(lines) > _SHOWN:
        print_table(Text(f"… and {len(lines) - _SHOWN} more: --json has them all"))


def _fields(count: Count) -> dict[str, Any]:
    return {"items": count.items, "rows": count.rows, "values": count.values, "examples": count.examples}
