"""How far pictures are needed: the same pairs judged on text alone, on pictures alone, and on both.

A judge is given less, never told of it: on text alone an item has lost its pictures and every finding that rests on
one; on pictures alone it has lost its title, description and fields, and every finding that rests on words. What is
left is merged anew, as the extractors' findings always are. One thing is not taken back: an extractor that looked at
a picture may have known from the words what kind of thing it looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from extractors.merge import Merger
from jobs.judge_material import Material, merged
from jobs.judge_scores import Labels
from jobs.judge_systems import SystemRun, run_judge
from lore_mm.bootstrap import Draws, estimate, plain, ratio
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Item, ItemFeatures
from relevance.protocol import PairJudge
from relevance.scoring import same_level, same_side

__all__ = ["Side", "restricted", "visual_necessity"]

Side = Literal["text", "image"]
_SAME = {"level": same_level, "side": same_side}


def restricted(material: Material, side: Side, merger: Merger) -> Material:
    """The material with what only words say, or only pictures."""
    features = {}
    for item_id, known in material.features.items():
        item = _less(known.item, side)
        found = {
            name: replace(one, attributes=tuple(a for a in one.attributes if _rests_on(a) == side))
            for name, one in material.findings.get(item_id, {}).items()
        }
        features[item_id] = ItemFeatures(item, merged(item, found, merger))
    return replace(material, features=features)


def _less(item: Item, side: Side) -> Item:
    return replace(item, images=()) if side == "text" else Item(item.item_id, title="", images=item.images)


def _rests_on(attribute: AttributeValue) -> Side:
    """Pictures where any evidence is on one; words else, also where no place is named."""
    return "image" if any(e.source.startswith("image:") for e in attribute.evidence) else "text"


def visual_necessity(
    data: RelevanceSet,
    material: Material,
    judges: Mapping[str, PairJudge],
    both: Sequence[SystemRun],
    knowledge: Knowledge,
    resamples: int,
) -> dict[str, Any]:
    """Each judge on the pairs whose items have pictures; `both` are the judges' answers on everything, in their order.

    As JSON, by judge: metrics for text, image and both, their differences from both, and shares of the pairs that were
    judged on text and on both, each with its interval: `only_picture` (wrong on text, right on both: only the picture
    settles it) and `misled_by_picture` (the reverse), by level and by side of the line between L2 and L3.

    Raises:
        InputError: no item of a pair has a picture.
    """
    at = [i for i, p in enumerate(data.pairs) if p.item_id in material.features and data.items[p.item_id].images]
    if not at:
        raise InputError(f"{data.name}: no item has a picture, so there is no visual necessity to measure")
    some = replace(data, pairs=tuple(data.pairs[i] for i in at))
    labels, merger = Labels.of(some, resamples), Merger(knowledge, load_schemas())
    sides: tuple[Side, ...] = ("text", "image")
    less: dict[Side, Material] = {side: restricted(material, side, merger) for side in sides}
    found: dict[str, Any] = {}
    for run in both:
        whole = _part(run, at)
        judge = judges[run.name]
        runs = {side: run_judge(f"{run.name}, {side}", judge, some, less[side]) for side in sides}
        every = range(len(at))
        found[run.name] = {
            "text": labels.part(runs["text"], every),
            "image": labels.part(runs["image"], every),
            "both": labels.part(whole, every),
            "text_minus_both": labels.difference(runs["text"], whole),
            "image_minus_both": labels.difference(runs["image"], whole),
            "only_picture": _share(labels, wrong=runs["text"], right=whole),
            "misled_by_picture": _share(labels, wrong=whole, right=runs["text"]),
            "note": _note(run.name, runs["text"], whole, len(data.pairs) - len(at)),
        }
    return found


def _part(run: SystemRun, at: Sequence[int]) -> SystemRun:
    judgments = [run.judgments[i] for i in at] if run.judgments is not None else None
    return replace(run, grades=[run.grades[i] for i in at], scores=[run.scores[i] for i in at], judgments=judgments)


def _share(labels: Labels, wrong: SystemRun, right: SystemRun) -> dict[str, dict[str, float | None]]:
    """The share of pairs that one got right and the other did not, of those that both judged."""
    draws, found = Draws(labels.groups, labels.resamples, 0), {}
    for name, same in _SAME.items():
        a, b = same(labels.truth, wrong.grades), same(labels.truth, right.grades)
        judged = ~np.isnan(a) & ~np.isnan(b)
        sums = draws.sums(np.stack([judged & (a == 0) & (b == 1), judged], axis=1).astype(float))
        found[name] = estimate(ratio(sums[:, 0], sums[:, 1]))
    return plain(found)


def _note(name: str, text: SystemRun, both: SystemRun, without: int) -> str:
    told = f"{len(both.grades)} pairs with pictures" + (f", {without} without are left out" if without else "")
    if list(text.grades) == list(both.grades):
        told += f"; no grade of {name} changes without them: it was given nothing that a picture shows"
    return told
