"""From a judged pair to a row: the prompt, the chain where the rules' path leads to the label, and the split.

Splits are drawn by the words themselves and not by chance, so that a pair is always in the same one: kinds of things
held out whole (`categories`), of the others queries held out (`queries`, and `dev` to look at while training).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lore_mm.fingerprint import sha_of_bytes
from lore_mm.types import ItemFeatures, Judgment, Understanding
from relevance.chain_prompt import ChainPrompt
from relevance.training.rows import ChainRow, Split, depths_of

__all__ = ["HeldOut", "RowMaker", "kind_asked"]

_GRAIN = 10_000


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Shares in [0, 1] that nothing is learned from: of all kinds, of the queries for the others, and of those for dev.

    `seed` draws others.
    """

    categories: float = 0.12
    queries: float = 0.10
    dev: float = 0.04
    seed: int = 0

    def split(self, query: str, categories: Sequence[str]) -> Split:
        """The split of a query; `categories` are the kinds that it and its item are of."""
        if any(self._draw("category", one) < self.categories for one in categories if one):
            return "categories"
        drawn = self._draw("query", " ".join(sorted(query.casefold().split())))
        if drawn < self.queries:
            return "queries"
        return "dev" if drawn < self.queries + self.dev else "train"

    def _draw(self, what: str, text: str) -> float:
        return int(sha_of_bytes(f"{self.seed} {what} {text}".encode()), 16) % _GRAIN / _GRAIN


class RowMaker:
    """Makes rows of pairs that the rules have judged."""

    def __init__(self, prompt: ChainPrompt, held_out: HeldOut | None = None, run_id: str = "") -> None:
        self.prompt, self.held_out, self.run_id = prompt, held_out or HeldOut(), run_id

    def row(
        self,
        understanding: Understanding,
        features: ItemFeatures,
        judgment: Judgment,
        *,
        source: str = "",
        label: int | None = None,
        label_by: Literal["people", "rules"] = "rules",
        changed: str = "",
        picture_root: str | None = None,
    ) -> ChainRow:
        """One row. `label` is the rules' own grade unless given; where the two differ the row has no chain to learn.

        A pair that the rules could not judge is a failed row with the reason.
        """
        told = self.prompt.tell(understanding, features)
        asked, has = kind_asked(understanding), features.of("category")
        grade = judgment.grade
        row = ChainRow(
            query_id=understanding.query.query_id,
            item_id=features.item.item_id,
            query=understanding.query.text,
            label=int(label or grade or 1),
            set=source,
            label_by=label_by,
            changed=changed,
            category=asked,
            split=self.held_out.split(understanding.query.text, (asked, has[0].value or "" if has else "")),
            system=told.system,
            prompt=told.prompt,
            item_told=told.item_told,
            pictures=features.item.images,
            picture_root=picture_root,
            teacher_sha=judgment.provenance.settings_sha,
            right=int(label is None or label == grade),
            provenance=replace(judgment.provenance, run_id=self.run_id, settings_sha=self.prompt.sha),
        )
        if grade is None:
            return replace(row, status="failed", error=judgment.error or "the rules have no grade")
        lines = depths_of(judgment)
        row = replace(row, reference=lines["rules"])
        if not row.right:
            return row
        return replace(
            row,
            knowledge=lines["knowledge"],
            multimodal=lines["multimodal"],
            rules=lines["rules"],
            failed=judgment.failed_dimensions,
        )


def kind_asked(understanding: Understanding) -> str:
    """The kind that a query asks for, empty where it names none."""
    found = (d.canonical for d in understanding.demands if d.dimension == "category" and d.canonical)
    return next(found, "") or ""
