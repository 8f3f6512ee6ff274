"""Is the data good? Coverage, values, conflicts between sources, and drift since an earlier snapshot, by category.

    quality = Quality(Snapshot("store"), against=Snapshot.as_of("store", "2026-01-01"))
    quality.table("coverage")    # and failure, gap, values, number, odd, conflict, drift; finding: what stands out

Each table's first column is its kind. The stores are read twice however much is asked: once for what the verdicts
say, once for what the extractors said. It does not know what is true: whether values are right takes labels
(`lore evaluate attributes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.schema import Schemas, load_schemas
from stores.quality_conflicts import conflicts, count_claims, looked_at
from stores.quality_counts import ALL, CATEGORY, NONE, Counts
from stores.quality_coverage import coverage, failures, gaps
from stores.quality_drift import Limits, drift
from stores.quality_findings import FINDING, findings
from stores.quality_values import distributions, numbers, odd_values
from stores.snapshot import Snapshot
from stores.views import Views

__all__ = ["ALL", "KINDS", "NONE", "Limits", "Quality"]

# kind → what a line of it is about
KINDS: Mapping[str, str] = {
    "finding": "what stands out, worst first, and what to do about it",
    "gap": "what items, queries and judgments lack",
    "failure": "rows that failed, by extractor and reason",
    "coverage": "items with a value, per category and attribute",
    "values": "the commonest values, per category and attribute",
    "number": "range, quartiles and outliers, per category, attribute and unit",
    "odd": "values that are not legal, or look wrong",
    "conflict": "what two extractors say of the same attribute, per category",
    "drift": "what changed since the other snapshot, per category and attribute",
}


class Quality:
    """Questions about the quality of a snapshot, and of what changed since another.

    Attributes:
        snapshot: what is asked about.
        against: the earlier one, None where nothing is compared.
        limits: from where on something is flagged.
        looked_at: one in how many items the conflicts were counted on; 1 up to `quality_conflicts.MOST_ITEMS`.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        against: Snapshot | None = None,
        *,
        category: str | None = None,
        attribute: str | None = None,
        schemas: Schemas | None = None,
        knowledge: Knowledge | None = None,
        limits: Limits | None = None,
        top: int = 5,
    ) -> None:
        """Read and count. `category` takes in the categories beneath it; `top` is how many common values are told.

        Raises:
            InputError: no such category or attribute.
            StoreError: a table cannot be read.
        """
        self.snapshot, self.against, self.limits = snapshot, against, limits or Limits()
        self._schemas, self._knowledge = schemas or load_schemas(), knowledge or load_knowledge()
        self._top = top
        self._kept: dict[str, pa.Table] = {}
        chosen = None if category is None else self._beneath(category)
        self._counts = Counts(snapshot, against, chosen, None if attribute is None else [attribute])
        self._counts.expect(self._schemas, self._knowledge)
        self.looked_at = looked_at(self._counts)
        if attribute is not None:
            self._check_attribute(attribute)

    def table(self, kind: str) -> pa.Table:
        """The lines of one kind (`KINDS`); drift has none without a snapshot to compare with.

        Raises:
            InputError: there is no such kind.
            StoreError: a table cannot be read.
        """
        if kind not in KINDS:
            raise InputError(f"no kind {kind!r}{nearest(kind, KINDS) or ';'} kinds: {', '.join(KINDS)}")
        if kind not in self._kept:
            self._kept[kind] = self._make[kind]()
        return self._kept[kind]

    def lines(self, kind: str, **equal: Any) -> list[dict[str, Any]]:
        """The lines of one kind as dictionaries, those with these values."""
        rows: list[dict[str, Any]] = self.table(kind).to_pylist()
        return [row for row in rows if all(row[name] == value for name, value in equal.items())]

    def summary(self) -> dict[str, Any]:
        """What was looked at: the store, versions, items with a verdict, categories."""
        sizes = self._counts.ask(
            "SELECT side, sum(items)::BIGINT AS items, count(*) AS categories FROM sizes GROUP BY side ORDER BY side"
        ).to_pylist()
        now = next((s for s in sizes if s["side"] == 0), {"items": 0, "categories": 0})
        line: dict[str, Any] = {"kind": "summary", "store": self.snapshot.store.uri, "versions": self.snapshot.versions}
        line |= {"items": now["items"], "categories": now["categories"], "against": None, "items_before": None}
        if self.against is not None:
            before = next((s for s in sizes if s["side"] == 1), {"items": 0})
            line |= {"against": self.against.versions, "items_before": before["items"]}
        return line | {"conflicts_looked_at": 1 / self.looked_at}

    @cached_property
    def _make(self) -> Mapping[str, Callable[[], pa.Table]]:
        counts = self._counts
        return {
            "finding": lambda: pa.Table.from_pylist(findings(self.table, self.limits), schema=FINDING),
            "gap": lambda: gaps(counts),
            "failure": lambda: failures(counts),
            "coverage": lambda: coverage(counts),
            "values": lambda: distributions(counts, self._top),
            "number": lambda: numbers(counts),
            "odd": lambda: odd_values(counts, self.limits.items),
            "conflict": self._conflicts,
            "drift": lambda: drift(counts, self.limits),
        }

    def _conflicts(self) -> pa.Table:
        count_claims(self._counts, self._knowledge)
        return conflicts(self._counts)

    def _beneath(self, category: str) -> list[str]:
        """A category and those beneath it, as far as the snapshots have them."""
        stored: set[str] = set()
        for one in (self.snapshot, self.against):
            if one is not None:
                rows = Views(one.store, one.versions).run(
                    f"SELECT DISTINCT {CATEGORY} AS c FROM rows.newest_attributes WHERE extractor = 'merge'"
                )
                stored |= {str(c) for c in rows["c"].to_pylist()}
        found = sorted(c for c in stored if c == category or category in self._knowledge.ancestors(c))
        if not found:
            legal: Sequence[str] = sorted(stored | set(self._knowledge.categories))
            if category in self._knowledge.categories:
                raise InputError(f"no item here is of the category {category!r} or one beneath it")
            raise InputError(f"no category {category!r}{nearest(category, legal)}")
        return found

    def _check_attribute(self, attribute: str) -> None:
        if not self._counts.ask("SELECT name FROM counted UNION SELECT name FROM asked").num_rows:
            legal = {*self.snapshot.attribute_names()}
            legal |= {name for schema in self._schemas.departments.values() for name in schema.specs}
            raise InputError(
                f"no attribute {attribute!r} here: no item has it, and no schema of their categories asks for it"
                f"{nearest(attribute, sorted(legal - {attribute}))}"
            )
