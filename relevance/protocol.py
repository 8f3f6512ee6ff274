"""What a judge is to the rest of the house: pairs in, as many judgments out, in the same order.

Nothing raises for the sake of a pair: what cannot be judged is a judgment without a grade and with the reason. A dead
model raises. A judge gets demands and features, never a store; a judge that looks at pictures is given who reads them.
This module knows no judge; `relevance.judge.open_judge` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from PIL.Image import Image

from lore_mm.types import Item, ItemFeatures, Judgment, Provenance, Query, Understanding

__all__ = [
    "NOTHING_KNOWN",
    "NOTHING_TO_JUDGE",
    "Pair",
    "PairJudge",
    "Pictures",
    "failed_judgment",
    "refused",
    "sha_with_rulebook",
]

Pair = tuple[Understanding, ItemFeatures]
# The pictures of an item, decoded, in its order; empty where it has none. Raises PictureError for one it cannot read.
Pictures = Callable[[Item], Sequence[Image]]

NOTHING_TO_JUDGE = "nothing to judge: the query names no demand known or unknown"
NOTHING_KNOWN = "nothing to judge: the item has no words and no attributes"


@runtime_checkable
class PairJudge(Protocol):
    """Judges pairs of a query that was understood and an item with its features."""

    name: str  # the address it was opened by: rules, student, direct:hf:lore-vlm-tiny …
    mode: str  # the first word of its address; a store keeps one judgment a pair and mode
    sha: str  # identifies whatever its judgments depend on: tables, rulebook, weights, prompt, settings
    versions: Mapping[str, str]  # name → sha of each part of that: knowledge, rulebook, model …

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """One judgment a pair, in the same order.

        Raises:
            ModelError: the model behind it is dead and did not come back.
        """
        ...

    def close(self) -> None:
        """Free what is held; calling it twice is harmless."""
        ...


@runtime_checkable
class TrainedJudge(Protocol):
    """A judge that was trained on labels, and knows of which queries: figures on these say little."""

    def was_trained_on(self, query: str) -> bool:
        """True where labels of this query, by its text, were among what it learnt from."""
        ...


def sha_with_rulebook(made_with: str, rulebook_sha: str) -> str:
    """The sha of a judge whose grade is the rulebook's: half of what its paths are made with, half of the rulebook.

    `made_with` is the sha of all that the path depends on, or an earlier result of this function: so stored judgments
    that are graded by another rulebook get the very sha of the judge that has it, and are not judged again for that.
    A half is 128 bits, far beyond any collision.
    """
    return made_with[:32] + rulebook_sha[:32]


def failed_judgment(
    query: Query, item_id: str, error: str, provenance: Provenance | None = None, mode: str = "rules"
) -> Judgment:
    """A pair that could not be judged: no grade, and the reason."""
    return Judgment(
        query_id=query.query_id,
        item_id=item_id,
        grade=None,
        query=query.text,
        mode=mode,
        status="failed",
        error=error,
        provenance=provenance or Provenance(maker=f"judge:{mode}"),
    )


def refused(understanding: Understanding, features: ItemFeatures | None = None) -> str | None:
    """Why a pair cannot be judged, if so: the query was not understood or demands nothing, or the item says nothing.

    A judge that looks at pictures leaves `features` out where the item has some.
    """
    if understanding.status != "ok":
        return f"the query was not understood: {understanding.error}"
    if not understanding.demands:
        return NOTHING_TO_JUDGE
    return NOTHING_KNOWN if features is not None and _says_nothing(features) else None


def _says_nothing(features: ItemFeatures) -> bool:
    """True for an item of which no more is known than a price or a shop: silence is no grade."""
    item = features.item
    texts = (item.title, item.description, item.category, item.brand)
    known = any(
        a.status in ("value", "conflict") and a.dimension not in ("price", "store") for a in features.attributes
    )
    return not known and not item.attributes and not any(text and text.strip() for text in texts)
