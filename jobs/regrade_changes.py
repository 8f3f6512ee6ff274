"""What a regrade changes, counted and shown: grades from and to, the rules that did it, and a few examples of each.

It compares two tables of JUDGMENTS row by row and leg by leg, and knows neither stores nor rulebooks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa
from rich.table import Table
from rich.text import Text

from lore_mm.console import print_table

__all__ = ["REGRADED", "Changes", "show_changes"]

REGRADED = "regrade of "  # stands before the maker of the path in a judgment that was graded again
_EXAMPLES = 3  # kept of each turn from one grade to another
_RULES_SHOWN = 20
_NONE = "–"
Turn = tuple[str, str]  # a grade before and after; – for none


@dataclass(slots=True)
class Changes:
    """Counts over judgments before and after.

    `rules` counts legs by (rule, level) before and after, and of their judgments those whose grade changed.
    """

    grades: Counter[Turn] = field(default_factory=Counter)
    rules: dict[tuple[str, str, str, str], tuple[int, int]] = field(default_factory=dict)
    examples: dict[Turn, list[dict[str, str]]] = field(default_factory=dict)

    @property
    def n_changed(self) -> int:
        """How many judgments have another grade."""
        return sum(n for (before, after), n in self.grades.items() if before != after)

    def add(self, before: pa.Table, after: pa.Table) -> None:
        """Count two tables of the same judgments in the same order."""
        keys = ("query", "query_id", "item_id", "mode")
        rows = pl.DataFrame(
            {name: pl.Series(before.column(name), dtype=pl.String) for name in keys}
            | {
                "old": pl.Series(before.column("grade"), dtype=pl.String).fill_null(_NONE),
                "new": pl.Series(after.column("grade"), dtype=pl.String).fill_null(_NONE),
            }
        )
        for old, new, n in rows.group_by("old", "new").len().iter_rows():
            self.grades[old, new] += n
        changed = rows.filter(pl.col("old") != pl.col("new"))
        for (old, new), some in changed.group_by("old", "new"):
            kept = self.examples.setdefault((str(old), str(new)), [])
            kept += some.head(_EXAMPLES - len(kept)).select(keys).to_dicts()
        self._add_rules(before, after, (rows["old"] != rows["new"]).rename("turned"))

    def _add_rules(self, before: pa.Table, after: pa.Table, turned: pl.Series) -> None:
        legs = pl.DataFrame(
            {"row": pl.int_range(len(turned), eager=True), "turned": turned}
            | {
                f"{name}_{when}": pl.Series(table.column("legs")).list.eval(pl.element().struct.field(name))
                for when, table in (("old", before), ("new", after))
                for name in ("rule_id", "level")
            }
        ).explode("rule_id_old", "level_old", "rule_id_new", "level_new")
        names = ("rule_id_old", "level_old", "rule_id_new", "level_new")
        legs = legs.with_columns(pl.col(names).fill_null(_NONE)).filter(
            (pl.col("rule_id_old") != pl.col("rule_id_new")) | (pl.col("level_old") != pl.col("level_new"))
        )
        counted = legs.group_by(names).agg(pl.len(), pl.col("row").filter("turned").n_unique())
        for *key, n, decisive in counted.iter_rows():
            legs_before, decisive_before = self.rules.get(tuple(key), (0, 0))
            self.rules[tuple(key)] = (legs_before + n, decisive_before + decisive)

    def ranked(self) -> list[tuple[tuple[str, str, str, str], tuple[int, int]]]:
        """The changed rules, those that change most judgments first."""
        return sorted(self.rules.items(), key=lambda one: (-one[1][1], -one[1][0], one[0]))

    def as_row(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "n_changed": self.n_changed,
            "grades": [{"from": a, "to": b, "n": n} for (a, b), n in sorted(self.grades.items())],
            "rules": [
                {"from": {"rule_id": a, "level": b}, "to": {"rule_id": c, "level": d}, "legs": n, "turned": turned}
                for (a, b, c, d), (n, turned) in self.ranked()
            ],
            "examples": [{"from": a, "to": b, **one} for (a, b), some in sorted(self.examples.items()) for one in some],
        }


def show_changes(changes: Changes) -> None:
    """The counts as tables on a terminal."""
    total = changes.grades.total()
    print_table(Text(f"{changes.n_changed} of {total} judgments have another grade"))
    if not changes.n_changed and not changes.rules:
        return
    levels = sorted({grade for turn in changes.grades for grade in turn}, reverse=True)
    matrix = Table("from \\ to", *levels, title="grades", title_justify="left", box=None, pad_edge=False)
    for old in levels:
        matrix.add_row(old, *(str(changes.grades[old, new] or "") for new in levels))
    print_table(matrix)
    columns = ("rule before", "level", "rule after", "level", "legs", "other grade")
    rules = Table(*columns, title="legs ruled otherwise", title_justify="left", box=None, pad_edge=False)
    for key, counts in changes.ranked()[:_RULES_SHOWN]:
        rules.add_row(*(Text(str(cell)) for cell in (*key, *counts)))
    print_table(rules)
    shown = Table("from", "to", "query", "item", title="examples", title_justify="left", box=None, pad_edge=False)
    for (old, new), some in sorted(changes.examples.items()):
        for one in some:
            shown.add_row(old, new, Text(one["query"] or one["query_id"]), Text(one["item_id"]))
    print_table(shown)
